"""eSpeak NG, a speech synthesiser that says when each phoneme begins (https://github.com/espeak-ng/espeak-ng)."""

import ctypes
import locale
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from training.data.errors import DataError

# of espeak-ng/speak_lib.h
AUDIO_OUTPUT_SYNCHRONOUS = 2
INITIALIZE_PHONEME_EVENTS = 0x0001
INITIALIZE_DONT_EXIT = 0x8000
CHARS_UTF8 = 1
POS_CHARACTER = 1
EVENT_LIST_TERMINATED = 0
EVENT_PHONEME = 7
RATE, VOLUME, PITCH, RANGE = 1, 2, 3, 4


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_void_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True)
class Voice:
    """How a text is spoken.

    Attributes:
        accent: espeak's name of a language, such as ``en-us``.
        variant: espeak's name of a timbre, such as ``f1``.
        rate: words per minute, 80 to 450.
        pitch: 0 to 99; 50 is the variant's own.
        range: of the pitch, 0 (monotone) to 99; 50 is the variant's own.
    """

    accent: str
    variant: str
    rate: int
    pitch: int
    range: int


@dataclass(frozen=True, eq=False)
class Spoken:
    """What espeak made of a text.

    Attributes:
        samples: [n] at the synthesiser's sample rate.
        phonemes: where each phoneme begins, in samples, and its mnemonic (as espeak's documentation on
            phonemes lists them), in order.
    """

    samples: npt.NDArray[np.int16]
    phonemes: tuple[tuple[int, str], ...]


class Espeak:
    """An instance of the synthesiser, made by ``open_espeak``.

    Attributes:
        sample_rate: of what it speaks.
        version: of espeak.
    """

    def __init__(self, library: Path, data: Path, seed: int) -> None:
        self._library = _load(library)
        self._variants = data / "voices" / "!v"
        self._samples: list[npt.NDArray[np.int16]] = []
        self._phonemes: list[tuple[int, str]] = []
        self._callback = _Callback(self._collect)  # kept, because the library keeps only its address
        options = INITIALIZE_PHONEME_EVENTS | INITIALIZE_DONT_EXIT
        mode = AUDIO_OUTPUT_SYNCHRONOUS
        self.sample_rate: int = self._library.espeak_Initialize(mode, 0, str(data).encode(), options)
        if self.sample_rate <= 0:
            raise DataError(f"espeak-ng found no usable data in {data}; reinstall espeakng-loader")
        self._library.espeak_SetSynthCallback(self._callback)
        self._library.espeak_ng_SetRandSeed(seed)
        self.version: str = self._library.espeak_Info(None).decode()

    def say(self, text: str, voice: Voice) -> Spoken:
        """Speak a text.

        Args:
            text: in English.
            voice: how.

        Raises:
            DataError: espeak has no such voice, or fails.
        """
        # espeak itself takes its default for a variant that it does not know.
        known = (self._variants / voice.variant).is_file()
        if not known or self._library.espeak_SetVoiceByName(f"{voice.accent}+{voice.variant}".encode()):
            raise DataError(f"espeak-ng {self.version} has no voice {voice.accent}+{voice.variant}")
        settings = {RATE: voice.rate, VOLUME: 60, PITCH: voice.pitch, RANGE: voice.range}  # 60: never clips
        for parameter, value in settings.items():
            self._library.espeak_SetParameter(parameter, value, 0)
        self._samples, self._phonemes = [], []
        content = text.encode() + b"\0"
        status = self._library.espeak_Synth(
            content, len(content), 0, POS_CHARACTER, 0, CHARS_UTF8, None, None
        )
        samples = np.concatenate([np.zeros(0, np.int16), *self._samples])
        if status or not samples.any():
            raise DataError(f"espeak-ng {self.version} failed to speak {text!r} (status {status})")
        return Spoken(samples, tuple(self._phonemes))

    def _collect(self, samples: Any, count: int, events: Any) -> int:
        """What the library calls with each buffer; nothing may be raised into it."""
        if count > 0:
            self._samples.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != EVENT_LIST_TERMINATED:
            if events[index].type == EVENT_PHONEME:
                mnemonic = events[index].id.string.decode("utf-8", "replace")
                self._phonemes.append((events[index].sample, mnemonic))
            index += 1
        return 0

    def close(self) -> None:
        """Free what the library holds."""
        self._library.espeak_Terminate()


def _load(library: Path) -> ctypes.CDLL:
    """Load a copy of the library, whose global state is nobody else's and starts from zero.

    What espeak speaks depends on what it spoke before; with a copy for each instance, the same calls on any
    instance give the same samples. The dynamic linker loads a file once, so the copy is another file.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copy(library, folder)
        loaded = ctypes.CDLL(copy)
    loaded.espeak_Info.restype = ctypes.c_char_p
    loaded.espeak_ng_SetRandSeed.argtypes = (ctypes.c_long,)
    loaded.espeak_Synth.argtypes = (
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_uint,
        ctypes.c_void_p,
        ctypes.c_void_p,
    )
    return loaded


@contextmanager
def open_espeak(seed: int) -> Iterator[Espeak]:
    """The synthesiser of the package espeakng-loader, in its initial state.

    Args:
        seed: of the noise in its consonants.

    Raises:
        DataError: the package is not installed, or does not work here.
    """
    try:
        # Imported here because only the synthetic corpus needs it, and only to be made.
        from espeakng_loader import get_data_path, get_library_path
    except ImportError as error:
        raise DataError(
            "Making a synthetic corpus needs the package espeakng-loader, which is not installed. "
            "Run pip install espeakng-loader."
        ) from error
    language = locale.setlocale(locale.LC_CTYPE)
    try:
        espeak = Espeak(Path(get_library_path()), Path(get_data_path()), seed)
    except OSError as error:
        raise DataError(f"The library of espeakng-loader cannot be loaded: {error}") from error
    finally:
        locale.setlocale(locale.LC_CTYPE, language)  # espeak sets its own, for the whole process
    try:
        yield espeak
    finally:
        espeak.close()
