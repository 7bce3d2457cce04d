import pytest
import typer.main

from sparseflow.cli import triseg
from sparseflow.recipes.triseg.bench import SUITES
from sparseflow.recipes.triseg.config import FinetuneConfig
from sparseflow.recipes.triseg.methods import METHODS

COMMANDS = typer.main.get_command(triseg.app).commands


def flags(command):
    return {flag for parameter in COMMANDS[command].params for flag in parameter.opts}


def test_every_option_says_what_it_does():
    for name, command in COMMANDS.items():
        assert command.help, name
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name} {parameter.opts}"


def test_the_flags_of_the_earlier_project_are_there():
    wanted = {
        "train-float": {"--model", "--data", "--out", "--epochs", "--lr", "--batch-size"},
        "train-qat": {"--qat-epochs", "--qat-lr", "--warmup-float-epochs", "--calib-batches", "--batch-size"},
        "search": {
            "--episodes",
            "--batch-size",
            "--calib-batches",
            "--eval-every",
            "--result-file",
            "--backend",
            "--lr",
            "--max-acc-drop",
            "--update-timestep",
            "--kd-T",
            "--tmax-mode",
            "--tmax-fixed",
            "--tmax-percentile",
            "--tmax-offset",
        },
        "finetune": {"--kd-T", "--alpha", "--calib-batches", "--config-path"},
        "coverage": {"--coverage-ignore-zeros", "--tmax-mode", "--tmax-fixed", "--tmax-percentile", "--tmax-offset"},
        "sensitivity": {"--config-path", "--model"},
    }
    for command, expected in wanted.items():
        assert expected <= flags(command), command


def test_every_table_can_be_had_as_json():
    assert all("--json" in flags(name) for name in COMMANDS)


def test_every_method_and_suite_is_named_in_the_help():
    (method,) = (p for p in COMMANDS["search"].params if "--method" in p.opts)
    assert [word.strip(" .").removeprefix("or ") for word in method.help.split(",")] == list(METHODS)
    (suite,) = (p for p in COMMANDS["bench"].params if "--suite" in p.opts)
    assert all(name in suite.help for name in SUITES)


def test_the_defaults_of_fine_tuning_that_the_help_shows_are_its_own():
    own = FinetuneConfig()
    shown = {p.name: float(p.show_default) for p in COMMANDS["finetune"].params if p.name in ("lr", "code_lr", "alpha")}
    assert shown == {"lr": own.lr, "code_lr": own.code_lr, "alpha": pytest.approx(1 - own.kd_weight)}
