"""The speakers of the synthetic corpus: settings of the synthesiser, and what each of them reads."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.data.audio import resample
from training.data.draws import Draws
from training.data.espeak import Espeak, Spoken, Voice
from training.data.phn import SAMPLE_RATE
from training.data.speech import Segment, rescale
from training.data.synthetic_phones import transcribe
from training.data.synthetic_sentences import HELD_OUT, SHARED, TRAINING, compose

# By sex, espeak's variants to train on and those that are only validated and tested on: men and women whose
# voices are even enough to pass for people, without echo.
VARIANTS = {
    "M": (
        ("m1", "m3", "m4", "m5", "m6", "m7", "Alex", "Denis", "Michael", "Mike", "adam", "max", "robert"),
        ("m8", "Mario", "benjamin", "david", "quincy", "victor"),
    ),
    "F": (
        ("f1", "Andrea", "Annie", "anika", "linda", "steph"),
        ("aunty", "belinda", "grandma"),
    ),
}
ACCENTS = {"DR6": "en-us-nyc"}  # as in TIMIT, dialect region 6 is New York City
ACCENT = "en-us"
REGIONS = 8
SX_EACH, SI_EACH = 5, 3
FIRST_SI = len(TRAINING) + len(HELD_OUT) + 1


@dataclass(frozen=True)
class Speaker:
    """Someone who does not exist.

    Attributes:
        name: such as ``MQAB0``; the first letter is the sex.
        folder: such as ``TRAIN/DR2/MQAB0``.
        number: counted from 0 in TRAIN, and again in TEST.
        voice: how espeak speaks.
        tract: the pitch of the voice and its formants are raised by this factor.
        level: the largest sample, of a full scale of 1.
        noise: that of the background, of the speaker's level.
    """

    name: str
    folder: str
    number: int
    voice: Voice
    tract: float
    level: float
    noise: float


def make_speaker(name: str, part: str, number: int, seed: int) -> Speaker:
    """Draw a speaker's settings.

    Args:
        name: whose first letter is the sex.
        part: TRAIN or TEST. The voices of one are not those of the other.
        number: of the speaker in that part, from 0.
        seed: of the corpus.
    """
    draws = Draws(seed, name)
    region = f"DR{number % REGIONS + 1}"
    voice = Voice(
        accent=ACCENTS.get(region, ACCENT),
        variant=draws.choose(VARIANTS[name[0]][part == "TEST"]),
        rate=round(draws.uniform(140, 200)),
        pitch=round(draws.uniform(38, 62)),
        range=round(draws.uniform(35, 70)),
    )
    return Speaker(
        name=name,
        folder=f"{part}/{region}/{name}",
        number=number,
        voice=voice,
        tract=draws.uniform(0.93, 1.08),
        level=draws.uniform(0.1, 0.6),
        noise=10 ** (draws.uniform(-50, -35) / 20),
    )


def texts(speaker: Speaker, seed: int) -> dict[str, str]:
    """What a speaker reads, by name of the sentence: 5 SX, 3 SI, and in TRAIN 2 SA, as in TIMIT."""
    train = speaker.folder.startswith("TRAIN")
    pool, offset = (TRAINING, 1) if train else (HELD_OUT, len(TRAINING) + 1)
    chosen = [(SX_EACH * speaker.number + count) % len(pool) for count in range(SX_EACH)]
    draws = Draws(seed, speaker.name, "SI")
    # Numbers of TRAIN alternate with those of TEST: every SI sentence is read once.
    first = FIRST_SI + 2 * SI_EACH * speaker.number + train
    return {
        **{f"SA{index}": text for index, text in enumerate(SHARED, 1) if train},
        **{f"SX{index + offset}": pool[index] for index in chosen},
        **{f"SI{first + 2 * count}": compose(draws) for count in range(SI_EACH)},
    }


def read_aloud(
    speaker: Speaker, text: str, espeak: Espeak, draws: Draws
) -> tuple[npt.NDArray[np.int16], list[Segment]]:
    """Record a sentence.

    Args:
        speaker: who reads.
        text: what.
        espeak: the synthesiser.
        draws: for the silence around the sentence, and the background noise.

    Returns:
        Samples [n] at 16 kHz, and their transcription in TIMIT's symbols, from sample 0 to n without gaps.
    """
    rate = espeak.sample_rate
    before, after = round(draws.uniform(0.08, 0.2) * rate), round(draws.uniform(0.05, 0.15) * rate)
    spoken = _pad(espeak.say(text, speaker.voice), before, after)
    played_at = round(rate * speaker.tract)
    waveform = resample(spoken.samples.astype(np.float32) / np.float32(2**15), played_at, SAMPLE_RATE)
    waveform /= max(1e-6, float(np.abs(waveform).max()))
    waveform += speaker.noise * draws.noise(len(waveform))
    samples = np.rint(np.clip(speaker.level * waveform, -1, 1) * (2**15 - 1)).astype(np.int16)
    phones = []
    start = 0
    for phone in transcribe(spoken, rate):
        end = min(len(samples), rescale(phone.end, played_at, SAMPLE_RATE))
        if end > start:
            phones.append(Segment(start, end, phone.label))
            start = end
    phones[-1] = Segment(phones[-1].start, len(samples), phones[-1].label)
    return samples, phones


def _pad(spoken: Spoken, before: int, after: int) -> Spoken:
    """Put silence around a sentence; espeak calls a pause ``_``."""
    phonemes = ((start + before, mnemonic) for start, mnemonic in spoken.phonemes)
    end = before + len(spoken.samples)
    return Spoken(np.pad(spoken.samples, (before, after)), (*phonemes, (end, "_")))
