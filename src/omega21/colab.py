"""El cliente en español: para quien entrena desde su PC contra una GPU de Colab o de otro lugar.

El mismo cliente que `omega21.Client`, con los nombres en español y diccionarios en lugar de
clases. Ejemplo:

    from omega21.colab import ClienteColabEntrenamiento, GeneradorDatosEntrenamiento

    muestras = GeneradorDatosEntrenamiento(semilla=42).generar_muestras(500, tipo="neuronal")
    with ClienteColabEntrenamiento("https://abc.ngrok-free.app", token="…") as cliente:
        cliente.conectar()
        cliente.entrenar_multiples_lotes(muestras, 64)
        cliente.mostrar_resumen()

Los lotes se entrenan uno tras otro, cada uno con su petición: sirve para pruebas y para programas
que ya funcionan así. Para entrenamientos largos, `omega21 train` sube los datos una sola vez,
entrena mientras suben y continúa tras un corte.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self, TypeAlias

import numpy as np
from rich.console import Console

from omega21.client.api.legacy import inline_samples
from omega21.client.http.address import parse_address
from omega21.client.request.presets import PRESETS as _PRESETS
from omega21.client.sync import Client
from omega21.data.samples import Samples, statistics
from omega21.data.sources.generators import generate
from omega21.language import speaking
from omega21.protocol.errors import InvalidAddress, InvalidRequest, InvalidSamples, OmegaError
from omega21.protocol.legacy import FEATURES
from omega21.protocol.names import DEFAULT_RUN
from omega21.protocol.plan import Kind
from omega21.protocol.printable import printable

Muestra: TypeAlias = Mapping[str, Any]
"""Una muestra como diccionario: `input_data`, 1600 números, y `anomaly_label`, 0 o 1."""

Muestras: TypeAlias = Samples | Sequence[Muestra]

PRESETS: Final[dict[str, dict[str, Any]]] = {
    nombre: {
        "muestras": preset.samples,
        "lote": preset.batch_size,
        "tipo": preset.kind,
        "anomalias": preset.anomaly_percent,
    }
    for nombre, preset in _PRESETS.items()
}
"""Ajustes con nombre: número de muestras, tamaño de lote, tipo y porcentaje de anomalías."""


@contextmanager
def _en_espanol() -> Iterator[None]:
    """Pone en español los mensajes del cliente y del servidor."""
    with speaking("es"):
        try:
            yield
        except OmegaError as error:
            # Se lee después, quizá en un contexto con otro idioma.
            error.message, error.hint = str(error.message), str(error.hint)
            raise


def validar_url_colab(url: str) -> bool:
    """Dice si el texto es la dirección de un servidor: https://… o http://…, sin contraseña."""
    try:
        parse_address(url)
    except InvalidAddress:
        return False
    return True


@_en_espanol()
def obtener_url_colab(url: str | None = None) -> str:
    """Devuelve la dirección del servidor: la que se da o la de COLAB_SERVER_URL.

    Lanza InvalidAddress si no hay ninguna o si no es una dirección.
    """
    encontrada = url or os.environ.get("COLAB_SERVER_URL", "")
    if not encontrada.strip():
        raise InvalidAddress(
            "no se ha dado la dirección del servidor",
            hint="pásala como argumento o en la variable de entorno COLAB_SERVER_URL",
        )
    return parse_address(encontrada)


class ClienteColabEntrenamiento:
    """Entrena en un servidor de omega21, lote a lote, y guarda el historial de la sesión.

    Sin `url` usa COLAB_SERVER_URL, y sin `token`, OMEGA21_TOKEN. Cada petición espera como mucho
    `timeout` segundos sin recibir datos, y se repite si eso puede ayudar, sin entrenar nada dos
    veces. Todo error es un OmegaError, que dice qué ha fallado y qué hacer.
    """

    @_en_espanol()
    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        corrida: str = DEFAULT_RUN,
        timeout: float = 60.0,
    ) -> None:
        self.url = obtener_url_colab(url)
        self.corrida = corrida
        self._historial: list[dict[str, Any]] = []
        self._conectado = False
        self._cliente = Client(
            self.url, token=token or os.environ.get("OMEGA21_TOKEN"), timeout=timeout
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.desconectar()

    @property
    def conectado(self) -> bool:
        """Si `conectar` encontró el servidor y no se ha desconectado después."""
        return self._conectado

    @_en_espanol()
    def conectar(self) -> bool:
        """Comprueba que el servidor responde y que habla el mismo protocolo.

        Devuelve True, o False tras escribir en la salida de error qué ha fallado y qué hacer.
        """
        try:
            info = self._cliente.connect()
        except OmegaError as error:
            sys.stderr.write(printable(f"sin conexión con {self.url}: {error}") + "\n")
            self._conectado = False
        else:
            sys.stderr.write(
                printable(f"conectado con {self.url}: {info.nombre} {info.version}") + "\n"
            )
            self._conectado = True
        return self._conectado

    @_en_espanol()
    def entrenar_lote(self, muestras: Muestras, *, epocas: int = 1) -> dict[str, Any]:
        """Entrena un lote, `epocas` pasos, y devuelve el resultado del servidor.

        El lote y el resultado están en el disco del servidor cuando vuelve.
        """
        lote = _como_muestras(muestras)
        resultado = self._cliente.train_batch(lote, run=self.corrida, epochs=epocas).model_dump()
        self._historial.append(resultado)
        return resultado

    @_en_espanol()
    def entrenar_multiples_lotes(
        self, muestras: Muestras, tamano_lote: int = 64, *, epocas: int = 1
    ) -> list[dict[str, Any]]:
        """Entrena las muestras en lotes de `tamano_lote`, en su orden; el último puede ser menor.

        Devuelve los resultados de los lotes. Si uno falla, los anteriores quedan entrenados y
        están en `obtener_historial`.
        """
        if tamano_lote < 1:
            raise InvalidRequest(f"el tamaño del lote es 1 o más, no {tamano_lote}")
        todas = _como_muestras(muestras)
        return [
            self.entrenar_lote(
                Samples(todas.x[i : i + tamano_lote], todas.y[i : i + tamano_lote]), epocas=epocas
            )
            for i in range(0, len(todas.y), tamano_lote)
        ]

    @_en_espanol()
    def enviar_feedback(
        self,
        ajustes: Sequence[float],
        validacion: bool,  # noqa: FBT001 - la firma que ya se conoce
    ) -> dict[str, Any]:
        """Registra qué se hizo con las dendritas: 16 ajustes en [-1, 1], y si sirvieron.

        Está en el disco del servidor cuando vuelve.
        """
        recibido = self._cliente.feedback(ajustes, validated=validacion, run=self.corrida)
        return recibido.model_dump()

    @_en_espanol()
    def obtener_estado(self) -> dict[str, Any]:
        """Devuelve el estado del servidor y las estadísticas de la ejecución."""
        return self._cliente.status(self.corrida).model_dump()

    @_en_espanol()
    def obtener_info(self) -> dict[str, Any]:
        """Devuelve la arquitectura del modelo y la versión del servidor."""
        return self._cliente.info(self.corrida).model_dump()

    @_en_espanol()
    def obtener_metricas(self) -> dict[str, Any]:
        """Devuelve las últimas pérdidas y su tendencia."""
        return self._cliente.metrics(self.corrida).model_dump()

    @_en_espanol()
    def diagnostico(self) -> dict[str, Any]:
        """Ejecuta la autocomprobación del servidor, sin modificar ninguna ejecución."""
        return self._cliente.diagnose(self.corrida).model_dump()

    def obtener_historial(self) -> list[dict[str, Any]]:
        """Devuelve los resultados de los lotes de esta sesión, en orden."""
        return list(self._historial)

    def mostrar_resumen(self) -> dict[str, Any]:
        """Escribe el resumen de la sesión en la salida estándar, y lo devuelve."""
        perdidas = [lote["loss"] for lote in self._historial]
        resumen = {
            "url": self.url,
            "corrida": self.corrida,
            "lotes": len(perdidas),
            "muestras": sum(lote["batch_size"] for lote in self._historial),
            "perdida_inicial": perdidas[0] if perdidas else None,
            "perdida_final": perdidas[-1] if perdidas else None,
            "perdida_media": float(np.mean(perdidas)) if perdidas else None,
            "anomalia_media": (
                float(np.mean([lote["anomaly_prob"] for lote in self._historial]))
                if perdidas
                else None
            ),
        }
        _escribir("Resumen de la sesión", resumen)
        return resumen

    def desconectar(self) -> None:
        """Cierra la conexión; lo entrenado queda en el servidor. Puede llamarse dos veces."""
        self._conectado = False
        self._cliente.close()


class GeneradorDatosEntrenamiento:
    """Genera muestras de prueba; la misma semilla da siempre las mismas.

    Cada llamada continúa la secuencia de la semilla donde acabó la anterior.
    """

    def __init__(self, semilla: int = 42) -> None:
        self.semilla = semilla
        self._siguiente = 0

    @_en_espanol()
    def generar_muestras(
        self, cantidad: int, *, tipo: Kind = "simple", porcentaje_anomalias: float = 10.0
    ) -> Samples:
        """Genera muestras de un tipo: `simple`, `temporal` o `neuronal`.

        Devuelve `x`, float32 [cantidad, 1600], e `y`, float32 [cantidad], 1 en las anomalías.
        """
        if cantidad < 1:
            raise InvalidRequest(f"la cantidad de muestras es 1 o más, no {cantidad}")
        indices = range(self._siguiente, self._siguiente + cantidad)
        try:
            muestras = generate(
                tipo,
                self.semilla,
                indices,
                anomaly_percent=porcentaje_anomalias,
                features=FEATURES,
            )
        except ValueError as error:
            raise InvalidRequest(str(error)) from error
        self._siguiente = indices.stop
        return muestras

    def generar_series_temporal(
        self, cantidad: int, *, porcentaje_anomalias: float = 10.0
    ) -> Samples:
        """Genera series de 16 pasos de 100 características."""
        return self.generar_muestras(
            cantidad, tipo="temporal", porcentaje_anomalias=porcentaje_anomalias
        )

    def generar_patrones_neuronales(
        self, cantidad: int, *, porcentaje_anomalias: float = 10.0
    ) -> Samples:
        """Genera sumas de picos de actividad."""
        return self.generar_muestras(
            cantidad, tipo="neuronal", porcentaje_anomalias=porcentaje_anomalias
        )

    @_en_espanol()
    def mostrar_estadisticas(self, muestras: Muestras) -> dict[str, Any]:
        """Escribe cuántas muestras y anomalías hay y en qué rango están, y lo devuelve."""
        datos = statistics(_como_muestras(muestras))
        estadisticas = {
            "total": datos.samples,
            "normales": datos.normal,
            "anomalias": datos.anomalies,
            "porcentaje_anomalias": datos.anomaly_percent,
            "minimo": datos.minimum,
            "maximo": datos.maximum,
            "media": datos.mean,
            "desviacion": datos.standard_deviation,
        }
        _escribir("Estadísticas de los datos", estadisticas)
        return estadisticas


def _como_muestras(muestras: Muestras) -> Samples:
    """Pasa una lista de diccionarios a matrices, y comprueba lo que se le da.

    Lanza InvalidSamples, con el número de la primera muestra que no sirve.
    """
    if isinstance(muestras, tuple):
        return inline_samples(muestras)
    dadas: Any = muestras  # cualquier cosa: las anotaciones no se comprueban
    if not isinstance(dadas, Sequence) or not all(isinstance(m, Mapping) for m in dadas):
        raise InvalidSamples(
            f"las muestras son una lista de diccionarios o un par (x, y), "
            f"no {type(muestras).__name__}",
            hint='cada una es {"input_data": [1600 números], "anomaly_label": 0 o 1}',
        )
    if not muestras:
        raise InvalidSamples("el lote está vacío", hint="envía al menos una muestra")
    return inline_samples(_de_diccionarios(dadas))


def _de_diccionarios(muestras: Sequence[Muestra]) -> Samples:
    x = np.empty((len(muestras), FEATURES), np.float32)
    y = np.empty(len(muestras), np.float32)
    for numero, muestra in enumerate(muestras):
        try:
            fila = np.asarray(muestra["input_data"], np.float64)
            y[numero] = muestra["anomaly_label"]
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidSamples(
                f"la muestra {numero} no tiene `input_data` y `anomaly_label` numéricos"
            ) from error
        if fila.shape != (FEATURES,):
            raise InvalidSamples(
                f"se esperaban {FEATURES} características, hay {fila.size}, muestra {numero}"
            )
        with np.errstate(over="ignore"):  # la comprobación informa de lo que no cabe en float32
            x[numero] = fila
    return Samples(x, y)


def _escribir(titulo: str, datos: Mapping[str, Any]) -> None:
    consola = Console(highlight=False, markup=False, soft_wrap=True)
    consola.print(printable(titulo))
    for nombre, valor in datos.items():
        texto = f"{valor:.4f}" if isinstance(valor, float) else valor
        consola.print(printable(f"  {nombre.replace('_', ' ')}: {'-' if texto is None else texto}"))
