#!/bin/sh
# Entrena en un servidor de omega21: ./conectar_colab.sh URL [opciones de omega21 train]
# El token, mejor en la variable de entorno OMEGA21_TOKEN que como opción.
set -eu

if [ "$#" -eq 0 ] && [ -z "${COLAB_SERVER_URL:-}" ]; then
    echo "uso: $0 URL [opciones]   (o la dirección en COLAB_SERVER_URL; véase omega21 train --help)" >&2
    exit 2
fi

# El omega21 de este repositorio, si está instalado (make), y si no, el del PATH.
carpeta=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
omega21="$carpeta/.venv/bin/omega21"
[ -x "$omega21" ] || omega21=$(command -v omega21) || {
    echo "error: omega21 no está instalado: ejecuta make, o pip install omega21" >&2
    exit 54
}

exec "$omega21" train "$@"
