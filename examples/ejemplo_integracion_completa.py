"""Una integración completa en trece pasos, de la dirección del servidor al informe.

    python examples/ejemplo_integracion_completa.py URL

Sin URL usa COLAB_SERVER_URL, y sin token, OMEGA21_TOKEN. Escribe `informe.json` e `informe.md` en
la carpeta de `--salida`. Es un punto de partida para programas propios: cópialo y cambia el paso 6
por tus datos y el 11 por lo que tu sistema haga con las dendritas.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omega21 import errors
from omega21.colab import (
    PRESETS,
    ClienteColabEntrenamiento,
    GeneradorDatosEntrenamiento,
    obtener_url_colab,
)

PASOS = 13


def main(argumentos: Sequence[str] | None = None) -> int:
    """Ejecuta los trece pasos y devuelve el estado de salida: 0, 1 sin conexión, o el del error."""
    opciones = leer_opciones(argumentos)
    try:
        integrar(opciones)
    except errors.OmegaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def leer_opciones(argumentos: Sequence[str] | None) -> argparse.Namespace:
    """Lee la línea de órdenes; lo que no se da sale del preset."""
    analizador = argparse.ArgumentParser(description="Integración completa con omega21.")
    analizador.add_argument("url", nargs="?", help="dirección del servidor")
    analizador.add_argument("--token", help="el que el servidor mostró al arrancar")
    analizador.add_argument("--preset", choices=PRESETS, default="prueba_rapida")
    analizador.add_argument("--muestras", type=int, help="cuántas muestras se generan")
    analizador.add_argument("--lote", type=int, help="muestras por lote")
    analizador.add_argument("--semilla", type=int, default=42)
    analizador.add_argument("--salida", type=Path, default=Path("informe"), help="carpeta")
    opciones = analizador.parse_args(argumentos)
    preset = PRESETS[opciones.preset]
    opciones.muestras = opciones.muestras or preset["muestras"]
    opciones.lote = opciones.lote or preset["lote"]
    return opciones


def integrar(opciones: argparse.Namespace) -> None:
    """Recorre los trece pasos. Lanza OmegaError en el primero que no se pueda dar."""
    url = obtener_url_colab(opciones.url)
    anunciar(1, "dirección", url)

    # Al salir del bloque se cierra la conexión; lo entrenado queda en el servidor.
    with ClienteColabEntrenamiento(url, token=opciones.token) as cliente:
        anunciar(2, "cliente", f"ejecución {cliente.corrida!r}")
        informe = entrenar_y_observar(cliente, opciones)

    rutas = escribir_informe(informe, opciones.salida)
    anunciar(13, "informe", ", ".join(str(ruta) for ruta in rutas))


def entrenar_y_observar(
    cliente: ClienteColabEntrenamiento, opciones: argparse.Namespace
) -> dict[str, Any]:
    """Da los pasos 3 a 12 con un cliente y devuelve lo que va al informe."""
    informe: dict[str, Any] = {"fecha": datetime.now(UTC).isoformat(timespec="seconds")}
    informe |= {"url": cliente.url, "corrida": cliente.corrida}

    if not cliente.conectar():
        raise SystemExit(1)  # `conectar` ya ha escrito qué pasa y qué hacer
    anunciar(3, "conexión", "el servidor responde")

    diagnostico = informe["diagnostico"] = cliente.diagnostico()
    anunciar(4, "diagnóstico", f"{diagnostico['status']}, {diagnostico['gpu_info']['device']}")

    info = informe["info"] = cliente.obtener_info()
    parametros = info["arquitectura"]["parametros_totales"]
    anunciar(5, "información", f"{info['nombre']}, {parametros:,} parámetros")

    preset = PRESETS[opciones.preset]
    generador = GeneradorDatosEntrenamiento(semilla=opciones.semilla)
    muestras = generador.generar_muestras(
        opciones.muestras, tipo=preset["tipo"], porcentaje_anomalias=preset["anomalias"]
    )
    anunciar(6, "datos", f"{opciones.muestras} muestras de tipo {preset['tipo']}")
    informe["datos"] = generador.mostrar_estadisticas(muestras)

    resultados = informe["lotes"] = cliente.entrenar_multiples_lotes(muestras, opciones.lote)
    anunciar(7, "entrenamiento", f"{len(resultados)} lotes de hasta {opciones.lote} muestras")

    analisis = informe["analisis"] = analizar(resultados)
    anunciar(8, "análisis", f"pérdida {analisis['primera']:.4f} → {analisis['ultima']:.4f}")

    estado = informe["estado"] = cliente.obtener_estado()
    anunciar(9, "estado", f"{estado['estadisticas']['total_muestras']} muestras en la ejecución")

    metricas = informe["metricas"] = cliente.obtener_metricas()
    anunciar(10, "métricas", f"tendencia: {metricas['tendencia']}")

    # El modelo aún no entrena las dendritas hacia ningún objetivo: sus valores sirven para probar
    # el circuito completo, no para decidir. Lo que se confirma aquí es que la pérdida bajó.
    feedback = cliente.enviar_feedback(resultados[-1]["dendrites"], analisis["mejora"])
    informe["feedback"] = feedback
    anunciar(11, "feedback", feedback["status"])

    anunciar(12, "resumen", "")
    informe["resumen"] = cliente.mostrar_resumen()
    return informe


def analizar(resultados: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Compara el primer lote con el último, y busca el mejor."""
    perdidas = [resultado["loss"] for resultado in resultados]
    return {
        "primera": perdidas[0],
        "ultima": perdidas[-1],
        "mejora": perdidas[-1] < perdidas[0],
        "mejor_lote": 1 + perdidas.index(min(perdidas)),
        "paso": resultados[-1]["step"],
    }


def escribir_informe(informe: dict[str, Any], carpeta: Path) -> tuple[Path, Path]:
    """Escribe el informe como JSON, para programas, y como Markdown, para personas."""
    carpeta.mkdir(parents=True, exist_ok=True)
    como_json, como_markdown = carpeta / "informe.json", carpeta / "informe.md"
    texto = json.dumps(informe, indent=2, ensure_ascii=False)
    como_json.write_text(f"{texto}\n", encoding="utf-8")
    como_markdown.write_text(en_markdown(informe), encoding="utf-8")
    return como_json, como_markdown


def en_markdown(informe: dict[str, Any]) -> str:
    """Redacta el informe: lo esencial en una tabla, y después los lotes, uno por fila."""
    resumen, analisis = informe["resumen"], informe["analisis"]
    feedback = informe["feedback"]["estadisticas"]
    filas = {
        "Servidor": informe["url"],
        "Modelo": f"{informe['info']['nombre']} {informe['info']['version']}",
        "Dispositivo": informe["diagnostico"]["gpu_info"]["device"],
        "Muestras": f"{resumen['muestras']} en {resumen['lotes']} lotes",
        "Anomalías": f"{informe['datos']['porcentaje_anomalias']:.1f} %",
        "Pérdida": f"{analisis['primera']:.4f} → {analisis['ultima']:.4f}",
        "Tendencia": informe["metricas"]["tendencia"],
        "Feedback con éxito": f"{feedback['exitoso']} de {feedback['recibido']}",
    }
    lineas = [f"# Informe de la ejecución {informe['corrida']}", "", informe["fecha"], ""]
    lineas += ["| dato | valor |", "|---|---|"]
    lineas += [f"| {nombre} | {valor} |" for nombre, valor in filas.items()]
    lineas += ["", "## Lotes", "", "| paso | muestras | pérdida | anomalía |", "|---|---|---|---|"]
    lineas += [
        f"| {lote['step']} | {lote['batch_size']} | {lote['loss']:.4f} "
        f"| {lote['anomaly_prob']:.4f} |"
        for lote in informe["lotes"]
    ]
    return "\n".join(lineas) + "\n"


def anunciar(paso: int, nombre: str, detalle: str) -> None:
    """Escribe por qué paso va."""
    print(f"[{paso:2}/{PASOS}] {nombre}: {detalle}".rstrip(": "), flush=True)


if __name__ == "__main__":
    sys.exit(main())
