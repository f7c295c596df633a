"""TIMIT (LDC93S1): 6,300 American English sentences, phonetically transcribed (Garofolo et al., 1993).

The splits are the usual ones, without the SA sentences, which every speaker reads: the 462 training speakers
(3,696 sentences), the 50 speakers of the development set out of TEST (Halberstadt, 1998; the list is that of
Kaldi's recipe ``timit/s5``), and the 24 of the core test set.

TIMIT is licensed by the Linguistic Data Consortium and is not downloaded.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.data.audio import decode
from training.data.corpus import Corpus, Sentence, find_corpus, find_sentences
from training.data.errors import DataError
from training.data.phn import SAMPLE_RATE, as_trained, parse_phn
from training.data.phones import CLASSES, SCORED_AS, SILENCE
from training.data.speech import Speech, Utterance, refuse_unknown
from training.data.splits import Split

NAME = "timit"
FOLDERS = ("timit", "ldc93s1", "data")  # in upper or lower case, one in the other as they are shipped
MAX_BYTES = 4 * 2**20  # of a file; the longest recording has 0.25

DEVELOPMENT = (
    "FAKS0", "FDAC1", "FJEM0", "MGWT0", "MJAR0", "MMDB1", "MMDM2", "MPDF0", "FCMH0", "FKMS0", "MBDG0",
    "MBWM0", "MCSH0", "FADG0", "FDMS0", "FEDW0", "MGJF0", "MGLB0", "MRTK0", "MTAA0", "MTDT0", "MTHC0",
    "MWJG0", "FNMR0", "FREW0", "FSEM0", "MBNS0", "MMJR0", "MDLS0", "MDLF0", "MDVC0", "MERS0", "FMAH0",
    "FDRW0", "MRCS0", "MRJM4", "FCAL1", "MMWH0", "FJSJ0", "MAJC0", "MJSW0", "MREB0", "FGJD0", "FJMG0",
    "MROA0", "MTEB0", "MJFC0", "MRJR0", "FMML0", "MRWS1",
)  # fmt: skip
CORE_TEST = (
    "MDAB0", "MWBT0", "FELC0", "MTAS1", "MWEW0", "FPAS0", "MJMP0", "MLNT0", "FPKT0", "MLLL0", "MTLS0",
    "FJLM0", "MBPM0", "MKLT0", "FNLP0", "MCMJ0", "MJDH0", "FMGD0", "MGRT0", "MNJM0", "FDHC0", "MJLN0",
    "MPAM0", "FMLD0",
)  # fmt: skip

TIMIT = Corpus(
    dataset=NAME,
    train={"DR1": 38, "DR2": 76, "DR3": 76, "DR4": 68, "DR5": 70, "DR6": 35, "DR7": 77, "DR8": 22},
    validation=DEVELOPMENT,
    test=CORE_TEST,
    remedy="Copy TIMIT again, whole and as it is shipped (LDC93S1).",
)
SYNTHETIC_MARKER = "synthetic.json"  # next to TRAIN and TEST where a corpus is not TIMIT but imitates it


def load_timit(split: Split, root: Path, options: Mapping[str, Any]) -> Speech:
    """Load a split of TIMIT.

    It is looked for in ``root`` and in ``root/timit``, in upper or lower case, with or without the folder
    ``TIMIT`` around ``TRAIN`` and ``TEST``. The recordings may be NIST SPHERE, as shipped, or RIFF WAVE.

    Args:
        split: which part.
        root: the data directory.
        options: none.

    Returns:
        Utterances at 16 kHz with the 48 classes as labels.

    Raises:
        DataError: TIMIT is not there, not whole, or damaged.
        OSError: a file that is there cannot be read.
    """
    refuse_unknown(options, (), NAME)
    folder = find_corpus(root, FOLDERS)
    if folder is None:
        raise DataError(
            f"TIMIT was looked for in {root} and {root / NAME} and is not there.\n"
            "It is licensed (LDC93S1, https://catalog.ldc.upenn.edu/LDC93S1), so it cannot be downloaded for "
            "you.\n"
            f"Put its folders TRAIN and TEST into {root / NAME}, or set --data or MOMENTUM_DATA to a "
            "directory that has them.\n"
            "To go on without it, take the data set synthetic-timit, which a speech synthesiser makes."
        )
    if (folder / SYNTHETIC_MARKER).exists():
        raise DataError(
            f"{folder}: found a synthetic corpus, expected TIMIT. "
            "Load it as synthetic-timit, or set --data or MOMENTUM_DATA to where TIMIT is."
        )
    return read_corpus(TIMIT, split, folder)


def read_corpus(corpus: Corpus, split: Split, folder: Path) -> Speech:
    """Read a split of a corpus that is laid out as TIMIT is.

    Args:
        corpus: what is expected to be there.
        split: which part.
        folder: the folder that holds TRAIN and TEST.

    Returns:
        As ``load_timit``. There is one checksum: over the name, recording and transcription of every
        sentence of the split, in order.

    Raises:
        DataError: a sentence of the split is missing or damaged.
        OSError: a file that is there cannot be read.
    """
    digest = hashlib.sha256()
    utterances = []
    for sentence in find_sentences(corpus, split, folder):
        recording, transcription = (_read(path) for path in (sentence.recording, sentence.transcription))
        header = f"{sentence.name} {len(recording)} {len(transcription)}\n"
        digest.update(header.encode() + recording + transcription)
        utterances.append(_decode(sentence, recording, transcription))
    return Speech(
        dataset=corpus.dataset,
        split=split,
        sample_rate=SAMPLE_RATE,
        labels=tuple(CLASSES),
        silence=SILENCE,
        scored_as=SCORED_AS,
        utterances=tuple(utterances),
        checksums={split: digest.hexdigest()},
    )


def _read(path: Path) -> bytes:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise DataError(f"{path}: found {size:,} bytes, expected a sentence with at most {MAX_BYTES:,}")
    return path.read_bytes()


def _decode(sentence: Sentence, recording: bytes, transcription: bytes) -> Utterance:
    samples = decode(recording, sentence.recording, sample_rate=SAMPLE_RATE)
    phones = parse_phn(transcription, len(samples), sentence.transcription)
    return Utterance(sentence.name, sentence.speaker, samples, as_trained(phones), label=None)
