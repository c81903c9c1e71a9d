#!/bin/sh
# Comprueba lo que hace falta para entrenar: ./verificar_setup_colab.sh [URL] [opciones de doctor]
# Sale con 0 si nada falla, o con el número del primer error.
set -u

carpeta=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
entorno="$carpeta/.venv/bin"

mal() { echo "error  $1" >&2; exit 54; }

if [ -x "$entorno/python" ]; then python="$entorno/python"; else python=python3; fi
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
    mal "no hay Python: instala Python 3.11 o posterior"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    mal "Python $version es demasiado antiguo: hace falta 3.11 o posterior"

omega21="$entorno/omega21"
[ -x "$omega21" ] || omega21=$(command -v omega21) ||
    mal "omega21 no está instalado: ejecuta make, o pip install omega21"

exec "$omega21" doctor "$@"
