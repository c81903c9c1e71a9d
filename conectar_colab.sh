#!/bin/sh
# Entrena en un servidor de omega21: ./conectar_colab.sh URL [opciones de omega21 train]
# También vale la línea entera que escribe la celda: ./conectar_colab.sh omega21 train https://… --token …
# El token pasa a omega21 por el entorno: los argumentos de un programa los ve toda la máquina.
set -eu

[ "${1-}" = omega21 ] && shift
[ "${1-}" = train ] && shift

if [ "$#" -eq 0 ] && [ -z "${COLAB_SERVER_URL:-}" ]; then
    echo "uso: $0 URL [opciones]   (o la dirección en COLAB_SERVER_URL; véase omega21 train --help)" >&2
    exit 2
fi

quedan=$#
while [ "$quedan" -gt 0 ]; do
    case $1 in
    --token=*)
        export OMEGA21_TOKEN="${1#--token=}"
        ;;
    --token)
        if [ "$quedan" -lt 2 ]; then
            echo "error: --token va seguido del token" >&2
            exit 2
        fi
        export OMEGA21_TOKEN="$2"
        shift
        quedan=$((quedan - 1))
        ;;
    *) set -- "$@" "$1" ;;
    esac
    shift
    quedan=$((quedan - 1))
done

# El omega21 de este repositorio, si está instalado (make), y si no, el del PATH.
carpeta=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
omega21="$carpeta/.venv/bin/omega21"
[ -x "$omega21" ] || omega21=$(command -v omega21) || {
    echo "error: omega21 no está instalado: ejecuta make, o .venv/bin/pip install ." >&2
    exit 54
}

exec "$omega21" train "$@"
