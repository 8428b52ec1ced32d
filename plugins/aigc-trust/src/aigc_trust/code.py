"""Error correction of payloads: a checksum inside a convolutional code.

Sources: Viterbi, IEEE Transactions on Information Theory 1967 (the decoder); CCSDS 131.0-B (the code: rate 1/2,
constraint length 7, generators 171 and 133 octal, here ended by zeros).
Shapes: B batch, K bits of the payload, N coded bits.
"""

from typing import NamedTuple

import numpy as np

#: Bits of the checksum: noise passes with a probability of 2^-10, which is less than 1e-3.
CHECK_BITS = 10
FALSE_POSITIVE_RATE = 2.0**-CHECK_BITS
_CHECK_POLYNOMIAL = 0x633  # CRC-10/ATM: x^10 + x^9 + x^5 + x^4 + x + 1
_GENERATORS = (0o171, 0o133)
_MEMORY = 6
_STATES = 1 << _MEMORY


class Reading(NamedTuple):
    """What was read from an image.

    Args:
        payload: the number; None where the checksum says that there is none.
        confidence: share of the coded bits, in [0, 1], that agree with the nearest word of the code; about 0.8 for
            images without a watermark.
    """

    payload: int | None
    confidence: float


def num_coded(payload_bits: int) -> int:
    """Return N, the number of coded bits for a payload of K bits."""
    return 2 * (payload_bits + CHECK_BITS + _MEMORY)


def encode(payload: int, payload_bits: int) -> np.ndarray:
    """Return the word (N,) of +1 and -1 for a payload, which is below 2^payload_bits."""
    data = _bits(payload, payload_bits)
    return _scrambled(_convolved(np.concatenate([data, _checksum(data), np.zeros(_MEMORY, dtype=np.int64)])))


def decode(soft: np.ndarray, payload_bits: int) -> Reading:
    """Return what a received word says.

    Args:
        soft: (N,) real numbers, positive for +1; those nearer to 0 are less certain.
        payload_bits: K.
    """
    data = _most_likely(_scrambled(np.asarray(soft, dtype=np.float64)))
    payload, check = data[:payload_bits], data[payload_bits:-_MEMORY]
    word = _scrambled(_convolved(data))
    confidence = float(np.mean((np.asarray(soft) > 0) == (word > 0)))
    if not np.array_equal(check, _checksum(payload)):
        return Reading(None, confidence)
    return Reading(int("".join(map(str, payload)), 2), confidence)


def _bits(value: int, count: int) -> np.ndarray:
    return np.array([value >> place & 1 for place in reversed(range(count))])


def _checksum(bits: np.ndarray) -> np.ndarray:
    rest = (1 << CHECK_BITS) - 1  # not 0, so that leading zeros count
    for bit in bits:
        top = rest >> (CHECK_BITS - 1) & 1
        rest = (rest << 1) & ((1 << CHECK_BITS) - 1)
        if top ^ int(bit):
            rest ^= _CHECK_POLYNOMIAL & ((1 << CHECK_BITS) - 1)
    return _bits(rest, CHECK_BITS)


def _outputs(register: np.ndarray) -> np.ndarray:
    """Return the two code bits, +1 or -1, of registers of 7 bits: (..., 2)."""
    parities = [sum((register & generator) >> place & 1 for place in range(_MEMORY + 1)) for generator in _GENERATORS]
    signs: np.ndarray = 1 - 2 * (np.stack(parities, axis=-1) % 2)
    return signs


def _convolved(bits: np.ndarray) -> np.ndarray:
    padded = np.concatenate([np.zeros(_MEMORY, dtype=np.int64), bits])
    windows = np.lib.stride_tricks.sliding_window_view(padded, _MEMORY + 1)
    return _outputs(windows @ (1 << np.arange(_MEMORY, -1, -1))).reshape(-1)


def _scrambled(word: np.ndarray) -> np.ndarray:
    """Change the signs of a word in a fixed random order, so that no constant reading is a word of the code."""
    scrambled: np.ndarray = word * np.random.RandomState(20).choice([-1, 1], len(word))
    return scrambled


def _most_likely(received: np.ndarray) -> np.ndarray:
    """Return the bits (N / 2,) of the word with the largest correlation, that end in the zero state (Viterbi)."""
    states = np.arange(_STATES)
    before = np.stack([states >> 1, states >> 1 | _STATES >> 1])  # (2, states): where each state comes from
    expected = _outputs(before << 1 | states & 1)
    scores = np.where(states == 0, 0.0, -np.inf)
    choices = []
    for pair in received.reshape(-1, 2):
        found = scores[before] + expected @ pair
        choices.append(found.argmax(axis=0))
        scores = found.max(axis=0)
    state, bits = 0, []
    for choice in reversed(choices):
        bits.append(state & 1)
        state = int(before[choice[state], state])
    return np.array(bits[::-1])
