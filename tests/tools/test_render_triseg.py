from tools.render_triseg import networks, searchers


def row(method, seed, *best):
    counts = ("100", "300", "600")
    return {"method": method, "seed": seed, "budget": 600, "best": dict(zip(counts, best, strict=True))}


def test_searchers_stand_in_the_order_of_their_medians():
    rows = [
        row("random", 0, -9.0, -6.0, -5.0), row("random", 1, -9.0, -7.0, -4.0), row("random", 2, -9.0, -8.0, -3.0),
        row("default", 0, -2.0, -1.5, -1.0), row("default", 1, -2.1, -1.6, -1.1), row("default", 2, -3.0, -2.0, -1.9),
    ]  # fmt: skip
    long = {"method": "ppo-original", "seed": 0, "budget": 10000, "best": {"10000": -1.25}}
    made = searchers({"search": {"rows": rows, "start_reward": -2.5, "documented": [long]}}).splitlines()
    assert made[0] == "| searcher, median reward of 3 seeds | after 100 | after 300 | after 600 |"
    assert made[2:4] == ["| `default` | -2.100 | -1.600 | -1.100 |", "| `random` | -9.000 | -7.000 | -4.000 |"]
    assert "one evaluation: -2.500." in made[-1]
    assert made[-1].endswith("`ppo-original` after its documented 10,000 evaluations, one seed: -1.250.")


def test_networks_show_what_they_are_and_what_they_lost():
    good = {
        "name": "mobilenetv1", "sites": ["a", "b"], "residual": False, "depthwise": True, "acc_teacher": 80.0,
        "drop": 0.254, "bits": 2.5, "avoided": 0.913,
    }  # fmt: skip
    made = networks({"rows": [good, {"name": "mine", "error": "DataError: no file"}]}).splitlines()
    assert made[2] == "| mobilenetv1 | 2 | depthwise | 80.00 % | 0.25 | 2.50 | 91.3 % |"
    assert made[3] == "| mine | DataError: no file | | | | | |"
