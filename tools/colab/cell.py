# @title omega21: server / servidor { display-mode: "form" }
# COLAB_SERVER_OMEGA21_V4_UNIFICADO.py, version @VERSION@, Apache-2.0
#
# Paste this whole file into one cell of a notebook (Colab, Kaggle, Jupyter) and run it; on any
# other machine with Python and torch: python COLAB_SERVER_OMEGA21_V4_UNIFICADO.py It installs what
# is missing (never torch or numpy), starts the server with its tunnel, and prints the line to type
# on your PC. The cell keeps running; interrupting it shuts the server down cleanly.
#
# Pega este fichero entero en una celda del cuaderno y ejecútala. Instala lo que falta (nunca torch
# ni numpy), arranca el servidor con su túnel y muestra la línea que hay que copiar en tu PC. La
# celda sigue ejecutándose; al interrumpirla, el servidor se detiene de forma ordenada.
#
# Made from the sources by `make colab`: change those, not this file.

# Empty values are read from OMEGA21_TUNNEL, OMEGA21_MIRROR, OMEGA21_DATA_DIR,
# OMEGA21_CLOUDFLARED, OMEGA21_ALLOW_CODE and OMEGA21_TOKEN; ngrok's token from Colab's secret NGROK_AUTHTOKEN, the
# environment variable of that name, or a prompt.
TUNNEL = ""  # @param ["", "auto", "ngrok", "cloudflared", "none"]
MIRROR = ""  # @param {type: "string"}
DATA_DIR = ""  # @param {type: "string"}
CLOUDFLARED = ""  # @param {type: "string"}
PORT = 0  # @param {type: "integer"}
# With ALLOW_CODE the server executes the models that are sent to it: whoever has its token then has
# a shell on this machine. Con ALLOW_CODE, quien tenga el token tiene un terminal en esta máquina.
ALLOW_CODE = False  # @param {type: "boolean"}
ALLOW_INSTALL = False  # @param {type: "boolean"}
LANGUAGE = ""  # @param ["", "en", "es"]

# === the package ===

if unpack_omega21():
    from omega21.server.notebook.cell import run_cell

    run_cell(
        tunnel=TUNNEL,
        mirror=MIRROR,
        data_dir=DATA_DIR,
        cloudflared=CLOUDFLARED,
        port=PORT,
        allow_code=ALLOW_CODE,
        allow_install=ALLOW_INSTALL,
        language=LANGUAGE,
    )
