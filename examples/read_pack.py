"""Forecast from a pack with NumPy alone, and hold every tensor to the golden vectors in it.

Reads `manifest.json`, `weights.bin` and `golden.bin`, nothing else, and imports nothing of sparseflow: the arithmetic
is written anew from its specification, so it checks that the pack says all that an engine must know.

Run: python examples/read_pack.py PACK
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def load(folder: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the settings of the network, and all arrays by name."""
    manifest = json.loads((folder / "manifest.json").read_text())
    blobs = {name: (folder / name).read_bytes() for name in ("weights.bin", "golden.bin")}
    arrays = {}
    for entry in manifest["arrays"]:
        shape, start = entry["shape"], entry["offset"]
        data = blobs[entry["file"]][start : start + entry["bytes"]]
        flat = np.frombuffer(data, np.dtype(entry["dtype"]).newbyteorder("<")).astype(np.int64)
        if entry["layout"] == "tiles_8x8":
            rows, columns = (-(-n // 8) for n in shape)
            whole = flat.reshape(rows, columns, 8, 8).swapaxes(1, 2).reshape(rows * 8, columns * 8)
            flat = whole[: shape[0], : shape[1]]
        arrays[entry["name"]] = flat.reshape(shape)
    return manifest["qspec"]["model"], arrays


def nearest(a: Array, d: Array | int) -> Array:
    """Return a / d to nearest, ties to even."""
    below, rest = np.divmod(a, d)
    up = (rest > d - rest) | ((rest == d - rest) & (below % 2 != 0))
    return below + up


def shift(a: Array, bits: Array | int) -> Array:
    """Return a / 2^bits to nearest, ties to even."""
    return nearest(a, np.int64(1) << np.asarray(bits, np.int64))


def cut(a: Array, limit: Array | int) -> Array:
    """Return `a` within ±limit."""
    return np.clip(a, -limit, limit)


class Network:
    """The forecaster of a pack; `seen` holds what it computed by name."""

    def __init__(self, model: dict[str, Any], arrays: dict[str, Array]) -> None:
        self.model, self.arrays = model, arrays
        self.seen: dict[str, Array] = {}

    def keep(self, name: str, values: Array) -> Array:
        """Remember a tensor."""
        self.seen[name] = values
        return values

    def scaled(self, name: str, sums: Array, spread: int = 0) -> Array:
        """Requantise by the factors of a place; those of two pools `spread` over so many other axes."""
        by, bits = (self.arrays[f"{name}.{part}"] for part in ("multiplier", "shift"))
        if spread:
            by, bits = (v.reshape(len(v), *[1] * (spread - v.ndim + 1), *v.shape[1:]) for v in (by, bits))
        return self.keep(name, cut(shift(sums * by, bits), self.arrays[f"{name}.limit"]))

    def linear(self, name: str, x: Array, spread: int = 0) -> Array:
        """Multiply by a matrix, add the bias, requantise."""
        return self.scaled(name, x @ self.arrays[f"{name}.weight"].T + self.arrays.get(f"{name}.bias", 0), spread)

    def table(self, name: str, codes: Array) -> Array:
        """Look codes up."""
        found: Array = self.arrays[name][codes + 128]
        return found

    def forward(self, readings: Array) -> Array:
        """Return the forecast `[B, V, F]`, both with 16 fraction bits."""
        m, a = self.model, self.arrays
        batch, series, length = readings.shape
        mean = self.keep("standardize.mean", nearest(readings.sum(-1, keepdims=True), length))
        centred = readings - mean
        variance = nearest((centred**2).sum(-1, keepdims=True), length) + 42950
        root = np.sqrt(variance.astype(np.float64) * 1024).astype(np.int64)
        root -= root * root > variance << 10
        root += (root + 1) ** 2 <= variance << 10
        std = self.keep("standardize.std", root)
        codes = nearest(centred * a["standardize.multiplier"], std << 16)
        x = self.keep("standardize", cut(codes, a["standardize.limit"]))
        x = np.concatenate([x] + [x[..., -1:]] * m["stride"], -1)
        starts = range(0, x.shape[-1] - m["patch_len"] + 1, m["stride"])
        x = np.stack([x[..., s : s + m["patch_len"]] for s in starts], -2).reshape(batch * series, len(starts), -1)
        x = self.linear("patch_embedding.value_embedding", x)
        place = "patch_embedding.position_embedding"
        x = self.keep(place, cut(x + a[f"{place}.pe"], 32767))
        for i in range(m["n_layer"]):
            x = self.block(f"encoder.layers.{i}.", x)
        before = self.scaled("encoder.act.in", x + a["encoder.act.in.bias"])
        x = self.keep("encoder.act", self.table("encoder.act.table", before))
        t = self.linear("head.linear", x.swapaxes(1, 2).reshape(batch, series, -1))
        return self.keep("restore", cut(shift(t * std, 25) + mean, 2**31 - 1))

    def block(self, at: str, x: Array) -> Array:
        """Return the tokens after a block."""
        y = self.linear(f"{at}mixer.out_proj", self.mix(f"{at}mixer.", self.norm(f"{at}norm", x)))
        return self.keep(f"{at}residual", cut(x + self.mlp(f"{at}GDDMLP.", y), 32767))

    def norm(self, name: str, x: Array) -> Array:
        """Return RMSNorm by a table and one step of Newton."""
        v = (x * x).sum(-1, keepdims=True) + self.arrays[f"{name}.eps"]
        e = (np.array([int(n).bit_length() for n in v.flat]).reshape(v.shape) - 1) // 2
        up = 30 - 2 * e
        m = np.where(up >= 0, v << np.maximum(up, 0), shift(v, np.maximum(-up, 0)))
        y = self.arrays["rsqrt.table"][(m >> 24) - 64]
        y = shift(y * ((3 << 30) - shift(m * y * y, 30)), 16)
        return self.scaled(name, shift(x * y, 6 + e))

    def mix(self, at: str, u: Array) -> Array:
        """Return what the scan makes of the tokens."""
        a, states, width = self.arrays, self.model["d_state"], int(self.model["expand"] * self.model["d_model"])
        xz = self.linear(f"{at}in_proj", u)
        x = self.keep(f"{at}act", self.table(f"{at}act.table", xz[..., :width]))
        rank = self.model["dt_rank"]
        low, b, c, d = np.split(self.linear(f"{at}x_proj", x), np.cumsum([rank, states, states]), -1)
        p = self.linear(f"{at}dt_proj", low)
        s = f"{at}scan"
        delta = self.keep(f"{s}.delta", self.table(f"{s}.delta", p))
        w = self.keep(f"{s}.w", cut(shift(delta * x, a[f"{s}.t"]), 32767))
        h = np.zeros((len(x), width, states), np.int64)
        kept, read = [], []
        for k in range(x.shape[1]):
            decay = np.moveaxis(a[f"{s}.decay"][:, p[:, k] + 128], 0, -1)
            h = cut(shift(decay * h + (w[:, k, :, None] * b[:, k, None, :] << a[f"{s}.j"]), 15), 32767)
            kept.append(h)
            read.append((h * c[:, k, None, :]).sum(-1))
        self.keep(f"{s}.h", np.stack(kept, 1))
        sums = np.stack(read, 1) * a[f"{s}.state"] + d * x * a[f"{s}.skip"]
        y = self.keep(f"{s}.y", cut(shift(sums, a[f"{s}.y.shift"]), 32767))
        return self.scaled(s, y * self.keep(f"{s}.z", self.table(f"{s}.silu", xz[..., width:])))

    def mlp(self, at: str, y: Array) -> Array:
        """Return the tokens, scaled and shifted by what all series hold."""
        series, (tokens, patches, _) = self.model["num_channels"], y.shape
        pooled = self.scaled(f"{at}pool", np.stack([y.sum(-1), y.max(-1)]), 2)
        pooled = pooled.reshape(2, tokens // series, series, patches).swapaxes(2, 3)
        made = []
        for fc, add, gate in (("fc_sc", "add_scale", "scale"), ("fc_sf", "add_shift", "shift")):
            hidden = self.linear(f"{at}{fc}.0", pooled, 3)
            hidden = self.keep(f"{at}{fc}.1", self.table(f"{at}{fc}.1.table", hidden))
            sums = self.keep(f"{at}{fc}.2", hidden @ self.arrays[f"{at}{fc}.2.weight"].T)
            codes = self.scaled(f"{at}{add}", sums.sum(0) + self.arrays[f"{at}{add}.bias"])
            made.append(self.table(f"{at}gate.{gate}", codes).swapaxes(1, 2).reshape(tokens, patches, 1))
        return self.keep(f"{at}gate", cut(shift(y * made[0], 15) + made[1], 32767))


def main(folder: str) -> int:
    """Compare every tensor; return 0 if all are equal."""
    model, arrays = load(Path(folder))
    network = Network(model, arrays)
    network.forward(arrays["golden.input"])
    golden = {name.removeprefix("golden."): v for name, v in arrays.items() if name.startswith("golden.")}
    wrong = 0
    for name, want in golden.items():
        if name != "input" and not np.array_equal(network.seen.get(name), want):
            wrong += 1
            print(f"{name}: differs")
    print(f"{len(golden) - 1} tensors, {sum(v.size for v in golden.values())} numbers, {wrong} tensors differ")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
