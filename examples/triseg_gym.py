"""Search for the codes of the shipped INT8 AlexNet with a reinforcement learner of another library.

pip install 'sparseflow[gym]' sb3-contrib
python examples/triseg_gym.py

MaskablePPO of sb3-contrib plays the search as an environment of Gymnasium, one code a step; where it is not installed,
even draws among the legal codes play instead.
"""

import statistics

import gymnasium

from sparseflow.recipes.triseg.gym import register

EPISODES = 128
SEED = 0


class Remembering(gymnasium.Wrapper):
    """Keep the reward and the codes of every episode."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.played: list[tuple[float, list[list[int]]]] = []

    def step(self, action):
        """Pass a step on."""
        told = self.env.step(action)
        if told[2]:
            self.played.append((float(told[1]), told[4]["codes"]))
        return told

    def action_masks(self):
        """Say which codes are legal, as MaskablePPO asks."""
        return self.env.unwrapped.action_masks()


def draw(env: Remembering, episodes: int) -> str:
    """Play by even draws among the legal codes, and return who played."""
    env.action_space.seed(SEED)
    for _ in range(episodes):
        _, info = env.reset()
        over = False
        while not over:
            _, _, over, _, info = env.step(env.action_space.sample(info["action_mask"]))
    return "even draws"


def learn(env: Remembering, episodes: int) -> str:
    """Play by MaskablePPO where it is installed, and return who played."""
    try:
        from sb3_contrib import MaskablePPO
    except ImportError:
        return draw(env, episodes)
    _, info = env.reset()
    steps = 1
    while not env.step(int(info["action_mask"].argmax()))[2]:
        steps += 1
    env.played.clear()
    learner = MaskablePPO("MlpPolicy", env, n_steps=8 * steps, batch_size=4 * steps, learning_rate=3e-3, seed=SEED)
    learner.learn(episodes * steps)
    return "MaskablePPO"


def main() -> None:
    """Run the example."""
    env = Remembering(gymnasium.make(register(), model="alexnet", batch_size=16, device="cpu"))
    player = learn(env, EPISODES)
    rewards = [reward for reward, _ in env.played]
    quarter = max(1, len(rewards) // 4)
    print(f"{player}, {len(rewards)} episodes on 16 images")
    print(f"reward   {statistics.mean(rewards[:quarter]):.2f} on average in the first quarter of them")
    print(f"         {statistics.mean(rewards[-quarter:]):.2f} in the last, and {max(rewards):.2f} at best")
    print("codes    " + ", ".join(str(row) for row in max(env.played)[1]))


if __name__ == "__main__":
    main()
