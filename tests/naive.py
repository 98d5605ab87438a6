"""Slow, obvious twins of the kernels: plain loops, one idea per function."""

from itertools import pairwise

import numpy as np

from behavioral.kernels.steps import CELLS, EDGES, INSIDE, POSITIONS

# ---- ACAM: behavioral/kernels/acam.py, steps.py, conversion.py


def search(lo, hi, bit, gray, u):
    """Compare every input of one column with every row; (n,) codes."""
    codes = []
    for value in u:
        word = 0
        for low, high, b in zip(lo, hi, bit, strict=True):
            if low < value < high:
                word |= 1 << int(b)
        codes.append(gray_to_binary(word) if gray else word)
    return np.array(codes, dtype=int)


def gray_to_binary(word):
    """Decode one Gray word bit by bit, from the most significant."""
    code, bit = 0, 0
    for i in range(word.bit_length() - 1, -1, -1):
        bit ^= (word >> i) & 1
        code |= bit << i
    return code


def compile_levels(lo, hi, bit, gray, levels):
    """Search at every DAC level."""
    u = np.arange(levels) / max(levels - 1, 1)
    return np.array([search(low, high, bit, gray, u) for low, high in zip(lo, hi, strict=True)])


def compile_steps(bounds, bit, gray):
    """Sum the codes (columns) of all copies where they change; of crowded cells some changes go.

    Returns the changes of each column: cell, place inside it, code from there on.
    """
    return [_steps_of(bounds[:, :, j], bit, gray) for j in range(bounds.shape[2])]


def _steps_of(bounds, bit, gray):
    first = POSITIONS * np.clip(bounds.astype(float), 0.0, 1.0)
    starts = np.unique(np.minimum(np.floor(first) + 1, POSITIONS - 1).astype(int))
    wanted = np.union1d(starts, np.arange(CELLS) * INSIDE)  # a change is looked for everywhere
    u = np.nextafter(wanted / POSITIONS, 0.0)  # edges before a position are behind it
    u[wanted == POSITIONS - 1] = 1.0
    total = sum(search(low, high, bit, gray, u) for low, high in bounds)
    steps = []
    for cell in range(CELLS):
        own = np.flatnonzero(wanted // INSIDE == cell)
        kept = [(int(wanted[i]) % INSIDE, int(total[i])) for i in own]
        kept = [kept[0]] + [b for a, b in pairwise(kept) if a[1] != b[1]]
        while len(kept) > EDGES + 1:
            kept = thin(kept[: EDGES + 2]) + kept[EDGES + 2 :]
        steps.append(kept)
    return steps


def thin(steps):
    """Let a neighbour's code take over one stretch of a cell: the least length times jump^2."""
    ends = [place for place, _ in steps[1:]] + [INSIDE]
    _, gone, k = min(
        ((ends[i] - place) * (code - steps[k][1]) ** 2, i, k)
        for i, (place, code) in enumerate(steps)
        for k in (i - 1, i + 1)
        if 0 <= k < len(steps)
    )
    left = steps[:gone] + steps[gone + 1 :]
    if k > gone:
        left[gone] = (steps[gone][0], left[gone][1])
    return left


def code_at(steps, place):
    """Return the code at a place of one cell's steps."""
    return [code for start, code in steps if start <= place][-1]


def unpack(cell):
    """Return the steps of one cell of a table."""
    edges, codes = (int(word) % 2**64 for word in cell)
    lanes = range(0, 16 * EDGES, 16)
    places = [0] + [edges >> i & 0xFFFF for i in lanes]
    return [(place, codes >> 16 * i & 0xFFFF) for i, place in enumerate(places)]


def convert(table, y, scale, shift, bottom, ends):
    """Look every input up on its own; returns base + step * code, and the clipped count."""
    out = np.zeros(y.shape)
    clipped = 0
    with np.errstate(over="ignore"):
        position = (y * scale + shift) * np.float32(POSITIONS)
    for b in range(y.shape[0]):
        for j in range(y.shape[1]):
            t = float(position[b, j])
            clipped += not bottom <= t <= POSITIONS
            at = int(min(max(t, 0), POSITIONS - 1))
            cell = unpack(table[0 if len(table) == 1 else j, at // INSIDE])
            out[b, j] = ends[0][j] + ends[1][j] * float(code_at(cell, at % INSIDE))
    return out, clipped


def convert_ranges(coarse, fine, y, line, bottom, ends, inside):
    """Convert twice; the fine value counts where the coarse one is inside."""
    wide, clipped = convert(coarse, y, line[0], line[1], bottom, ends[:2])
    close, _ = convert(fine, y, line[2], line[3], bottom, ends[2:])
    return np.where((inside[0] < wide) & (wide < inside[1]), close, wide), clipped


def certain(table, base, step, low, high, middle):
    """Walk from the middle cell of every column to both sides."""
    out = np.empty((2, len(base)), np.int64)
    for j, cell in enumerate(middle):
        line = [[code for _, code in unpack(c)] for c in table[0 if len(table) == 1 else j]]
        inside = [
            all(low[j] < base[j] + step[j] * np.float32(code) < high[j] for code in codes)
            for codes in line
        ]
        first = last = cell
        while last < len(inside) and inside[last]:
            last += 1
        while last > cell and first > 0 and inside[first - 1]:
            first -= 1
        out[:, j] = first, last
    return out


# ---- products: behavioral/kernels/products.py


def encode(model, x, ceiling, block, by_row):
    """Sign, DAC code, log code of every value on its own; returns packed codes and row shifts."""
    code = np.zeros(x.shape, int)
    shift = np.zeros(x.shape[:2], int)
    top = model.logs.shape[1] - 1
    for z, m in np.ndindex(x.shape[:2]):
        steps = []
        gain = np.float32(top) / np.float32(ceiling)
        for k, value in enumerate(x[z, m]):
            with np.errstate(over="ignore"):
                level = min(float(abs(value) * gain + np.float32(0.5)), top)
            level = int(level)
            steps.append(int(model.logs[(m if by_row else k) % len(model.logs), level]))
        used = [s for s in steps if s != model.zero]
        if block and used:
            shift[z, m] = min(used)
        for k, step in enumerate(steps):
            packed = step if step == model.zero else step - shift[z, m]
            code[z, m, k] = packed + (model.section if x[z, m, k] < 0 else 0)
    return code, shift


def matmul(model, a, b, n_limit, k_limit):
    """One product, one look-up at a time."""
    out = np.zeros((*a.code.shape[:2], b.code.shape[1]))
    for z, m, n in np.ndindex(out.shape):
        if n >= n_limit[m]:
            continue
        table = model.exps[n % len(model.exps)]
        for k in range(min(a.code.shape[2], k_limit[m])):
            out[z, m, n] += table[int(a.code[z, m, k]) + int(b.code[z, n, k])]
        out[z, m, n] *= float(a.scale[z, m]) * float(b.scale[z, n]) / model.full
    return out


def softmax(model, scores, limit, place):
    """Row by row; returns attenuations and the sums that the log units see."""
    code = np.full(scores.shape, model.zero)
    sums = np.zeros(scores.shape[:2])
    levels = model.logs.shape[1]
    for z, m in np.ndindex(scores.shape[:2]):
        row = scores[z, m, : limit[m]]
        if not np.any(np.isfinite(row)):
            continue
        total = 0
        for n, score in enumerate(row):
            with np.errstate(over="ignore"):
                fall = (row.max() - score) / np.float32(model.delta) + np.float32(0.5)
            if fall < model.zero:
                code[z, m, n] = int(fall)
            total += int(model.exps[n % len(model.exps), code[z, m, n]])
        power, mantissa = 0, total
        while mantissa >= levels:
            power += 1
            mantissa = int(total / 2**power + 0.5)
        while 0 < mantissa <= (levels - 1) // 2:
            power -= 1
            mantissa *= 2
        attenuation = int(model.logs[place[m] % len(model.logs), mantissa])
        if attenuation != model.zero:
            scale = (levels - 1) / model.full
            sums[z, m] = np.exp(-model.delta * attenuation) * 2.0**power * scale
    return code, sums


# ---- crossbar: behavioral/kernels/crossbar.py


def ladder_matrix(rows, r, r_end):
    """Resistance of the bit line: volts at node i per ampere injected at node j; (rows, rows)."""
    out = np.empty((rows, rows))
    for i in range(rows):
        for j in range(rows):
            out[i, j] = r_end + r * (rows - 1 - max(i, j))
    return out


def effective_column(g, r, r_end):
    """Read-out current per volt on each row of one ohmic column, by the dense nodal equations."""
    rows = len(g)
    ladder = ladder_matrix(rows, r, r_end)
    currents = np.linalg.solve(np.eye(rows) + np.diag(g) @ ladder, np.diag(g))
    return currents.sum(axis=0)


def cell_law(coefficients, degree, v, u):
    """Polynomial of a cell, term by term: by power of u, then of v."""
    total, k = 0.0, 0
    for b in range(degree + 1):
        for a in range(degree + 1 - b):
            total += coefficients[k] * v**a * u**b
            k += 1
    return total


def column_residual(u, coefficients, degree, v, r, r_end):
    """Kirchhoff's law of a column: bit-line voltages minus what the cells' currents make them."""
    rows = len(v)
    current = np.array(
        [(v[i] - u[i]) * cell_law(coefficients[i], degree, v[i], u[i]) for i in range(rows)]
    )
    return u - ladder_matrix(rows, r, r_end) @ current


def grid_residual(nodes, laws, degree, x, r_row, r, r_end):
    """Kirchhoff's law of an array: row and bit-line voltages minus what the currents make them."""
    rows, cols = laws.shape[1:]
    v, u = nodes.reshape(2, rows, cols)
    current = np.empty((rows, cols))
    for i, c in np.ndindex(rows, cols):
        current[i, c] = (v[i, c] - u[i, c]) * cell_law(laws[:, i, c], degree, v[i, c], u[i, c])
    beyond = np.cumsum(current[:, ::-1], axis=1)[:, ::-1]  # through the segment before each cell
    drop = r_row * np.cumsum(beyond, axis=1)
    rise = ladder_matrix(rows, r, r_end) @ current
    return np.stack([v - x[:, None] + drop, u - rise]).ravel(), current.sum(axis=0)


def first_order_column(g, ohmic, alpha, base, slope, degree, v, r, r_end):
    """Ohmic output of one column, and what its cells add at the ohmic operating point."""
    rows = len(v)
    ladder = ladder_matrix(rows, r, r_end)
    u = np.linalg.solve(np.eye(rows) + ladder @ np.diag(ohmic), ladder @ np.diag(ohmic) @ v)
    z = np.linalg.solve(np.eye(rows) + np.diag(ohmic) @ ladder, np.eye(rows)).sum(axis=0)
    added = 0.0
    for i in range(rows):
        law = cell_law(base, degree, v[i], u[i]) + alpha[i] * cell_law(slope, degree, v[i], u[i])
        added += z[i] * (v[i] - u[i]) * (g[i] * law - ohmic[i])
    return float(ohmic @ (v - u)), added


def linearized(x, u, laws, degree):
    """Inputs of one sample through the mean cell law, (parts * rows,)."""
    v = np.clip(x, -1, 1)
    parts = []
    for m, law in enumerate(laws):
        p = np.array(
            [
                sum(
                    law[b, a] * vi**a * ui**b
                    for b in range(degree + 1)
                    for a in range(degree + 1 - b)
                )
                for vi, ui in zip(v, u, strict=True)
            ]
        )
        parts.append((v if m == 0 else 0.0) + (v - u) * p)
    return np.concatenate(parts)


def bent(x, rest, law):
    """Inputs one by one through a polynomial law, over the virtual ground."""
    v = np.clip(x.astype(float), -1, 1) - rest
    return np.array([vi * sum(c * vi**k for k, c in enumerate(law)) for vi in v])


def dac(x, step, low, high):
    """Code of one input: nearest, even at a tie."""
    return min(max(round(float(np.float32(x) * np.float32(step))), low), high)


def correct(y, driven, common, terms):
    """Per-column correction, output by output."""
    out = np.array(y, float)
    for m in range(y.shape[0]):
        rows = driven[m, : common.size].astype(float)
        power = np.mean(rows**2) if rows.size else 0.0
        for c in range(y.shape[1]):
            out[m, c] += power * (terms[0, c] * y[m, c] + terms[1, c] * (rows @ common))
    return out


def square(driven, own, weights):
    """Squares of own rows of one sample, and the weighted sum of those of all others."""
    v = driven[: len(weights)].astype(float)
    shared = [sum(w * x * x for w, x in zip(weights, v, strict=True))]
    return [v[i] ** 2 for i in own] + (shared if len(own) < len(weights) else [])


# ---- row drivers: behavioral/kernels/dac.py


def multiply(x, laws, probe, basis, matrix, common, terms, own, weights, spread):
    """Product of an array with row voltages, and its variance; no virtual ground."""
    if laws.shape[1] == 1:
        driven = np.array([bent(row, 0.0, laws[0, 0]) for row in x])
    else:
        driven = np.array([linearized(row, (probe @ row) @ basis, laws, 5) for row in x])
    driven = driven.reshape(x.shape)
    y = correct(driven @ matrix, driven, common, terms)
    if not len(spread):
        return y, np.zeros((0, matrix.shape[1]))
    squares = [square(row, own, weights) for row in driven]
    return y, np.reshape(squares, (len(x), len(spread))) @ spread


def place(x, levels):
    """Interpolate between levels at even places from -1 to 1."""
    return np.interp(x, np.linspace(-1, 1, len(levels)), levels)


def follow(x, levels):
    """Interpolate between the levels of every row."""
    asked = np.linspace(-1, 1, levels.shape[1])
    return np.stack([np.interp(v, asked, row) for v, row in zip(x.T, levels, strict=True)], axis=1)
