"""The user's own source: found from the file of its entry, listed, packed; never imported.

`prepare_code` is what the client and `serve --model` call.
"""
