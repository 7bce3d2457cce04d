from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sparseflow.errors import ConfigError
from sparseflow.recipes.settings import read_settings
from sparseflow.recipes.triseg.config import FinetuneConfig, QatConfig, TrainConfig
from sparseflow.recipes.triseg.search_config import SearchConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    depth: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    name: str = "a"
    epochs: int = 3
    lr: float = 0.1
    deep: bool = False
    data: str | None = None
    milestones: tuple[float, ...] = (0.5,)
    more: dict[str, int] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)
    layers: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ConfigError(f"epochs is {self.epochs}; expected more than 0")


def test_a_file_gives_fields_and_what_is_given_overrides_it(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "epochs: 7\nlr: 1\nmilestones: [0.3, 0.6]\nmore: {x: 1}\ndata: here\ninner: {depth: 5}\nlayers: [a]\n"
    )
    want = Settings(
        epochs=9, lr=1, milestones=(0.3, 0.6), more={"x": 1}, data="here", inner=Inner(depth=5), layers=("a",)
    )
    assert read_settings(Settings, path, epochs=9, name=None) == want
    assert read_settings(Settings, None) == Settings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot read"),
        ("a: [", "cannot read"),
        ("- 1", "holds no settings"),
        ("epoch: 3", "unknown settings epoch; known: name, epochs"),
        ("epochs: many", "epochs is 'many'; expected a whole number"),
        ("epochs: 2.5", "epochs is 2.5"),
        ("lr: 1e-3", "lr is '1e-3'; expected a number"),
        ("deep: 1", "deep is 1; expected true or false"),
        ("name: 3", "expected a text"),
        ("inner: {deep: 1}", "inner: unknown settings deep; known: depth"),
        ("inner: {depth: x}", "inner: depth is 'x'"),
        ("inner: 3", "inner is 3"),
        ("epochs: 0", "epochs is 0; expected more than 0"),
    ],
)
def test_a_faulty_file_names_itself_and_the_setting(tmp_path, text, said):
    path = tmp_path / "s.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=said) as e:
        read_settings(Settings, path)
    assert "s.yaml" in str(e.value)


def test_a_field_that_does_not_exist_is_named():
    with pytest.raises(ConfigError, match="depth"):
        read_settings(Settings, None, depth=3)


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "configs").glob("triseg_*.yaml")), ids=lambda p: p.stem
)
def test_every_configuration_of_the_project_is_one(path):
    kinds = {"float": TrainConfig, "qat": QatConfig, "finetune": FinetuneConfig, "search": SearchConfig}
    words = path.stem.split("_")
    settings = read_settings(next(kinds[word] for word in words if word in kinds), path)
    assert settings != type(settings)()
    if words[-1] in kinds and len(words) == 3:
        assert settings.model == words[1]


def test_a_file_may_stand_on_another_one(tmp_path):
    (tmp_path / "a.yaml").write_text("name: x\nepochs: 5\ninner: {depth: 4}\nmore: {a: 1}\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\nepochs: 7\nmore: {b: 2}\n")
    found = read_settings(Settings, tmp_path / "b.yaml")
    assert (found.name, found.epochs, found.inner.depth, found.more) == ("x", 7, 4, {"a": 1, "b": 2})


def test_a_file_that_stands_on_itself_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("base: b.yaml\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\n")
    with pytest.raises(ConfigError, match="its own base"):
        read_settings(Settings, tmp_path / "a.yaml")
