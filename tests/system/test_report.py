"""The table of results."""

from system.inference import Result
from system.report import results_table


def result(mode: str, metric: str, mean: float, std: float = 0.0, chips: int = 1) -> Result:
    return Result(
        "net", mode, metric, mean, std, [mean] * chips, 0, chips, 10, "ab", 1.0, 10.0, 0, 0,
        "frozen", {},
    )  # fmt: skip


def test_accuracy_is_in_percent_with_the_spread_over_chips():
    table = results_table(
        [result("float", "accuracy", 0.99), result("noisy", "accuracy", 0.9712, 0.004, 5)]
    )
    assert table.splitlines()[-1] == "| net | accuracy | 99.00 % |  |  | 97.12 ± 0.40 % |"


def test_perplexity_is_a_plain_number():
    table = results_table([result("quantized", "perplexity", 31.256)])
    assert table.splitlines()[-1] == "| net | perplexity |  | 31.26 |  |  |"
