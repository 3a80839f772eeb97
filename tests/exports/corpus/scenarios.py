"""The token inputs of every scenario: what is fed at each step, and which position of the whole sequence each row stands for."""
from dataclasses import dataclass, field
import zlib

import numpy as np


@dataclass
class Step:
    ids: np.ndarray  # [batch, seq]
    mask: np.ndarray  # [batch, past + seq], or [batch, seq] for an encoder
    positions: np.ndarray  # [batch, seq]; 1 where padded, as generation code in the field does
    where: np.ndarray  # [batch, seq]: the index into the row's unpadded sequence, -1 where padded
    types: np.ndarray  # [batch, seq] token types, for encoders
    extra: dict = field(default_factory=dict)  # other data inputs by name


@dataclass
class Scenario:
    name: str
    rows: list  # per row the unpadded tokens of the whole run
    types: list  # per row the token types
    steps: list = field(default_factory=list)


def _step(rows, types, spans, total_mask, pad, width):
    """One step: spans[r] = (start, end) in row r's tokens, laid out left- or right-padded by total_mask's last columns."""
    batch = len(rows)
    ids, positions = np.full((batch, width), pad), np.ones((batch, width), int)
    where, kinds = np.full((batch, width), -1), np.zeros((batch, width), int)
    for r, (start, end) in enumerate(spans):
        columns = np.nonzero(total_mask[r, -width:])[0]
        ids[r, columns] = rows[r][start:end]
        positions[r, columns] = where[r, columns] = np.arange(start, end)
        kinds[r, columns] = types[r][start:end]
    return Step(ids.astype(np.int64), total_mask.astype(np.int64), positions.astype(np.int64), where, kinds.astype(np.int64))


def _run(name, rng, lengths, widths, left, pad):
    """Rows of `lengths` tokens at the first call padded to widths[0], then all rows go on by widths[1:]."""
    rest = sum(widths[1:])
    rows = [rng.integers(3, 250, n + rest) for n in lengths]
    types = [(np.arange(n + rest) >= (n + rest + 1) // 2).astype(int) for n in lengths]
    mask = np.zeros((len(lengths), widths[0]), int)
    for r, n in enumerate(lengths):
        mask[r, widths[0] - n :] = 1
        if not left:
            mask[r] = mask[r, ::-1]
    out = Scenario(name, rows, types)
    spans = [(0, n) for n in lengths]
    for i, width in enumerate(widths):
        if i:
            mask = np.concatenate([mask, np.ones((len(lengths), width), int)], 1)
            spans = [(end, end + width) for _, end in spans]
        out.steps.append(_step(rows, types, spans, mask, pad, width))
    return out


def scenarios(model, kind, pad=0):
    rng = np.random.default_rng(zlib.crc32(model.encode()) + 1)
    if kind == "encoder":
        return [_run("b1_7", rng, [7], [7], False, pad), _run("b1_13", rng, [13], [13], False, pad),
                _run("b2_rightpad", rng, [9, 5], [9], False, pad)]
    return [_run("b1_p7", rng, [7], [7, 1, 1, 1], False, pad), _run("b1_p12", rng, [12], [12, 1, 1, 1], False, pad),
            _run("b1_chunk", rng, [5], [5, 4, 1], False, pad), _run("b2_leftpad", rng, [7, 4], [7, 1, 1, 1], True, pad),
            _run("b2_rightpad_prefill", rng, [7, 4], [7], False, pad)]
