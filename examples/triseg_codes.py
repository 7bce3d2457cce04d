"""Give the activations of the shipped INT8 AlexNet three values without any search, and look at the cost.

python examples/triseg_codes.py

Counts how often each code occurs on calibration images, takes for every layer the five codes that change its
histogram least (exactly, by dynamic programming), and compares accuracy, bits and multiplies.
"""

from sparseflow.compress.approximate import TmaxRule, cost_of, optimal_codes
from sparseflow.data import open_splits
from sparseflow.ops.triseg import tables
from sparseflow.recipes.triseg.analyze import accuracy, collect
from sparseflow.recipes.triseg.teacher import load_teacher

MODEL = "alexnet"
OUT = "outputs"
IMAGES = 400


def main() -> None:
    """Run the example."""
    teacher = load_teacher(MODEL, OUT)
    splits = open_splits()
    counts = collect(teacher, splits.calib).counts
    codes = optimal_codes(counts, tmax=TmaxRule()(counts)).codes
    made = dict(zip(teacher.points, tables(codes), strict=True))

    judged = splits.val.take(min(IMAGES, len(splits.val)))
    before, after = accuracy(teacher, judged), accuracy(teacher, judged, made)
    images = splits.calib.normalize(splits.calib.images[:64])
    cost = cost_of(teacher.net, teacher.sites, codes, [images])

    print(f"{teacher.name}, {len(judged)} images of CIFAR-10 that it was not trained on")
    print("  layer      t1   v1   t2   v2  tmax")
    for name, row in zip(teacher.names, codes.tolist(), strict=True):
        print(f"  {name:8}" + "".join(f"{code:5}" for code in row))
    print(f"right answers   {before:.1f} % as INT8, {after:.1f} % with three values, before any search or training")
    print(f"an activation   {cost.bits_per_activation:.2f} bits instead of 8")
    print(f"multiplies      {cost.multiplies_avoided:.1%} fewer where these codes are read")
    for machine in cost.machines:
        print(f"  {machine.name:22}{1e6 * machine.energy_j:8.2f} µJ an image, by a table for {cost.table.technology}")


if __name__ == "__main__":
    main()
