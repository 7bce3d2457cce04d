"""Hardware as data: targets in YAML, a unit in every key and a source beside every number."""

from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from sparseflow.errors import ConfigError
from sparseflow.hardware.facts import FactReader
from sparseflow.hardware.host import describe_host
from sparseflow.ir import Target

__all__ = ["gpu_target", "load_target", "target_names"]

_FOLDER = resources.files("sparseflow.hardware") / "targets"
_NUMBERS = ("bw_bytes_per_s", "memory_bytes", "cores", "launch_s")
_TABLES = ("peak_flops_per_s", "measured", "resources")
_WORDS = ("name", "kind", "device", "described", "features")
_NEEDED = ("name", "kind", "peak_flops_per_s", "bw_bytes_per_s", "memory_bytes", "cores")


def target_names() -> tuple[str, ...]:
    """Return the names of the targets that come with sparseflow.

    >>> target_names()
    ('cpu', 'h100', 'h200', 'rtx3090', 'zcu102')
    """
    return tuple(sorted(p.name.removesuffix(".yaml") for p in _FOLDER.iterdir() if p.name.endswith(".yaml")))


def gpu_target(device: str) -> Target:
    """Return the target that stands for a GPU.

    Args:
        device: the name that the driver gives, as "NVIDIA H200".

    Returns:
        The target file that it has, or else the rates of an H100 under the
        device's own name: they stand in for predictions alone.

    >>> gpu_target("NVIDIA H200").name, gpu_target("NVIDIA L4").name
    ('h200', 'nvidia-l4')
    """
    squeezed = device.lower().replace(" ", "")
    for name in target_names():
        target = load_target(name, describe=False)
        if target.kind == "gpu" and name.removeprefix("rtx") in squeezed:
            return target
    return replace(load_target("h100"), name="-".join(device.lower().split()) or "gpu")


def load_target(name_or_path: str | Path, *, describe: bool = True) -> Target:
    """Return a target by name, or from a YAML file.

    Args:
        name_or_path: one of `target_names()`, or a path that ends in .yaml.
        describe: let a file that says `described: host` be replaced by
            `describe_host()`, which measures this machine.

    Raises:
        ConfigError: unknown name, or a fault in the file: names the file, the
            key and the mend.

    >>> load_target("h200").bw_bytes_per_s
    4800000000000.0
    """
    text = str(name_or_path)
    if text in target_names():
        place, content = f"target {text}", (_FOLDER / f"{text}.yaml").read_text(encoding="utf-8")
    elif text.endswith((".yaml", ".yml")):
        place = text
        try:
            content = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise ConfigError(f"cannot read target file {text}: {e}; name a readable YAML file") from e
    else:
        known = ", ".join(target_names())
        raise ConfigError(f"unknown target {text!r}; there are {known}, or give the path of a .yaml file")
    described = _TargetReader(place).target(content)
    if describe and described.host:
        return describe_host(name=described.target.name)
    return described.target


@dataclass(frozen=True, slots=True)
class _Described:
    target: Target
    host: bool


class _TargetReader(FactReader):
    """Turns one YAML text into a target."""

    def target(self, content: str) -> _Described:
        body = self.mapping("the file", self.parse(content))
        self.keys(body, (*_WORDS, *_NUMBERS, *_TABLES), _NEEDED)
        words = {key: self.word(key, body[key]) for key in ("name", "kind", "device", "described") if key in body}
        if words.get("described", "host") != "host":
            raise self.fault("described", f"is {words['described']!r}", "write host, or leave it out")
        if "device" in words:
            self.sources["name"] = words["device"]
        numbers = {key: self.number(key, body[key]) for key in _NUMBERS if key in body}
        tables = {key: self.table(key, body[key]) for key in _TABLES if key in body}
        if not numbers["cores"].is_integer():
            raise self.fault("cores", f"is {numbers['cores']}", "give a whole number")
        try:
            target = Target(
                name=words["name"],
                kind=words["kind"],
                peak_flops_per_s=tables["peak_flops_per_s"],
                bw_bytes_per_s=numbers["bw_bytes_per_s"],
                memory_bytes=numbers["memory_bytes"],
                cores=int(numbers["cores"]),
                launch_s=numbers.get("launch_s", 0.0),
                features=self.words("features", body.get("features", [])),
                measured=tables.get("measured", {}),
                resources=tables.get("resources", {}),
                sources=self.sources,
            )
        except ConfigError as e:
            raise ConfigError(f"{self.place}: {e}") from e
        return _Described(target, words.get("described") == "host")
