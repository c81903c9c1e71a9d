#!/bin/sh
# Comprueba lo que hace falta para entrenar: ./verificar_setup_colab.sh [URL] [opciones de diagnose]
# Sale con 0 si todo está bien, o con el número del primer error.
set -u

carpeta=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
entorno="$carpeta/.venv/bin"

bien() { echo "bien   $1"; }
mal() { echo "error  $1" >&2; exit "$2"; }

if [ -x "$entorno/python" ]; then python="$entorno/python"; else python=python3; fi
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
    mal "no hay Python: instala Python 3.11 o posterior" 54
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    mal "Python $version es demasiado antiguo: hace falta 3.11 o posterior" 54
bien "Python $version"

omega21="$entorno/omega21"
[ -x "$omega21" ] || omega21=$(command -v omega21) ||
    mal "omega21 no está instalado: ejecuta make, o pip install omega21" 54
bien "$("$omega21" --version)"

if [ "$#" -eq 0 ] && [ -z "${COLAB_SERVER_URL:-}" ]; then
    echo "sin comprobar: el servidor. Da su dirección: $0 URL"
    exit 0
fi
"$omega21" diagnose "$@" || mal "el servidor no responde como debe: véase la línea anterior" "$?"
bien "el servidor calcula"
