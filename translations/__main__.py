"""Brings the translations up to date: `make messages`.

python -m translations           # take in new messages, drop old ones, compile
python -m translations --check   # exit 1 when that would change anything, or something is missing

New messages are left untranslated, and named: write them in the .po file and run this again.
"""

import sys

from translations.catalogue import TRANSLATED, as_po, compiled, faults, po_path, read, updated


def main(arguments: list[str]) -> int:
    """Update each language, or with --check compare; return the exit status."""
    check = arguments == ["--check"]
    status = 0
    for language in TRANSLATED:
        catalogue = updated(language)
        path = po_path(language)
        wanted = {path: as_po(catalogue)}
        if not check:
            path.write_bytes(wanted[path])
        wanted[path.with_suffix(".mo")] = compiled(read(language))
        for file, content in wanted.items():
            if check and (not file.exists() or file.read_bytes() != content):
                sys.stderr.write(f"{file} is not current: run make messages\n")
                status = 1
            elif not check:
                file.write_bytes(content)
        missing = faults(catalogue)
        for fault in missing:
            sys.stderr.write(f"{path}: {fault}\n")
        status = 1 if missing else status
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
