"""El vocabulario en español, contra un servidor de verdad."""

from collections.abc import Iterator

import numpy as np
import pytest

from omega21.client.sync import Client
from omega21.colab import (
    PRESETS,
    ClienteColabEntrenamiento,
    GeneradorDatosEntrenamiento,
    obtener_url_colab,
    validar_url_colab,
)
from omega21.models.corteza.config import TINY, run_config
from omega21.protocol.errors import InvalidAddress, InvalidRequest, InvalidSamples
from tests.servers import RunningServer, start_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("colab") / "data"
    with start_server(folder, "--threads", "1", token="secreto") as running:
        with Client(running.address, token="secreto") as client:
            client.api.runs.create("prueba", config=run_config(model=TINY))
        yield running


@pytest.fixture
def cliente(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ClienteColabEntrenamiento]:
    monkeypatch.setenv("COLAB_SERVER_URL", server.address)
    monkeypatch.setenv("OMEGA21_TOKEN", "secreto")
    with ClienteColabEntrenamiento(corrida="prueba") as conectado:
        yield conectado


def test_una_sesion_entera(
    cliente: ClienteColabEntrenamiento, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cliente.conectar()
    assert cliente.conectado
    assert cliente.diagnostico()["status"] == "diagnostico_ok"
    assert "arquitectura" in cliente.obtener_info()

    muestras = GeneradorDatosEntrenamiento(semilla=1).generar_muestras(100)
    resultados = cliente.entrenar_multiples_lotes(muestras, 64)
    assert [resultado["batch_size"] for resultado in resultados] == [64, 36]
    assert resultados[-1]["status"] == "trained"
    assert cliente.obtener_historial() == resultados

    assert cliente.obtener_estado()["estadisticas"]["total_muestras"] == 100
    assert len(cliente.obtener_metricas()["ultimos_20_losses"]) == 2
    recibido = cliente.enviar_feedback(resultados[-1]["dendrites"], True)
    assert recibido["status"] == "feedback_recibido"
    resumen = cliente.mostrar_resumen()
    assert (resumen["lotes"], resumen["muestras"]) == (2, 100)
    assert "perdida final" in capsys.readouterr().out
    cliente.desconectar()
    assert not cliente.conectado


def test_muestras_como_diccionarios(cliente: ClienteColabEntrenamiento) -> None:
    x, y = GeneradorDatosEntrenamiento().generar_muestras(4)
    filas = [
        {"input_data": fila.tolist(), "anomaly_label": int(etiqueta)}
        for fila, etiqueta in zip(x, y, strict=True)
    ]
    assert cliente.entrenar_lote(filas, epocas=2)["batch_size"] == 4
    with pytest.raises(InvalidSamples, match="se esperaban 1600 características, hay 3, muestra 0"):
        cliente.entrenar_lote([{"input_data": [1, 2, 3], "anomaly_label": 0}])
    with pytest.raises(InvalidSamples, match="muestra 1 no tiene"):
        cliente.entrenar_lote([filas[0], {"input_data": filas[0]["input_data"]}])
    with pytest.raises(InvalidSamples, match="vacío"):
        cliente.entrenar_lote([])
    with pytest.raises(InvalidSamples, match="muestra 0"):
        cliente.entrenar_lote([{**filas[0], "anomaly_label": 2}])
    with pytest.raises(InvalidRequest, match="tamaño del lote"):
        cliente.entrenar_multiples_lotes(filas, 0)


def test_sin_conexion_se_dice_y_no_se_lanza(
    server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with ClienteColabEntrenamiento(server.address, token="otro") as cliente:
        assert not cliente.conectar()
    assert "sin conexión" in capsys.readouterr().err


def test_una_sesion_sin_lotes_tiene_resumen(cliente: ClienteColabEntrenamiento) -> None:
    assert cliente.mostrar_resumen()["perdida_inicial"] is None


def test_los_datos_continuan_y_se_repiten(capsys: pytest.CaptureFixture[str]) -> None:
    uno, otro = GeneradorDatosEntrenamiento(7), GeneradorDatosEntrenamiento(7)
    primeras, segundas = uno.generar_muestras(30), uno.generar_muestras(30)
    assert np.array_equal(otro.generar_muestras(60).x, np.vstack([primeras.x, segundas.x]))
    assert uno.generar_series_temporal(10).x.shape == (10, 1600)
    assert uno.generar_patrones_neuronales(10, porcentaje_anomalias=50).y.sum() == 5
    assert uno.mostrar_estadisticas(primeras)["anomalias"] == 3
    assert "porcentaje anomalias: 10.0000" in capsys.readouterr().out
    with pytest.raises(InvalidRequest, match="cantidad"):
        uno.generar_muestras(0)
    with pytest.raises(InvalidRequest, match="porcentaje"):
        uno.generar_muestras(5, porcentaje_anomalias=200)


def test_direcciones(monkeypatch: pytest.MonkeyPatch) -> None:
    assert validar_url_colab("https://abc.ngrok-free.app/")
    assert not validar_url_colab("abc.ngrok-free.app")
    assert not validar_url_colab("")
    monkeypatch.setenv("COLAB_SERVER_URL", "https://abc.ngrok-free.app/")
    assert obtener_url_colab() == "https://abc.ngrok-free.app"
    assert obtener_url_colab("http://127.0.0.1:9") == "http://127.0.0.1:9"
    monkeypatch.delenv("COLAB_SERVER_URL")
    with pytest.raises(InvalidAddress, match="COLAB_SERVER_URL"):
        obtener_url_colab()


def test_presets() -> None:
    assert PRESETS["deteccion_anomalias"] == {
        "muestras": 2000,
        "lote": 64,
        "tipo": "temporal",
        "anomalias": 20,
    }
