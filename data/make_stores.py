"""Write ``stores_sample.csv``: invented stores, the same ones every time. Run: python data/make_stores.py"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from pathlib import Path

SAMPLE = Path(__file__).with_name("stores_sample.csv")
STORES = 400
AREAS = (700014, 700029, 710006, 710011, 710022, 713104, 721301, 732101, 734003, 741235, 742149, 743368)
# The two stores that the contract's examples name.
NAMED = (("710006", "BHARAT STORE", "S00339218"), ("710006", "MAA TARA BHANDAR", "S01408764"))

FIRST = ("ANNAPURNA", "BASANTI", "CHANDRA", "DURGA", "GANESH", "JOYGURU", "KALPANA", "LAXMI", "RADHA", "SARADA", "UMA")
SECOND = ("KUMAR", "DAS", "PAUL", "SAHA", "GHOSH", "ROY", "SEN", "MONDAL", "DEVI", "SINGH")
KIND = ("STORE", "BHANDAR", "STORES", "VARIETY", "TRADERS", "GENERAL STORE", "MART", "PAN CENTRE", "MEDICAL", "SWEETS")
# What a real master holds too: letters beyond ASCII, commas, quotes, apostrophes.
ODD = (
    "राम किराना स्टोर",
    "মা তারা ভান্ডার",
    "CAFÉ RENÉ",
    "SAHA & SONS, WHOLESALE",
    'THE "NEW" MARKET, STALL 7',
    "ROY'S CORNER",
    "লক্ষ্মী স্টোর, নতুন বাজার",
    "SMÖRGÅS DELI",
)


def stores(count: int = STORES) -> Iterator[tuple[str, str, str]]:
    """Area, name and id of ``count`` stores; the same for the same count."""
    dice = random.Random(7)
    ids = dice.sample(range(100_000, 2_000_000), count)
    yield from NAMED
    for place, number in enumerate(ids[len(NAMED) :]):
        yield str(dice.choice(AREAS)), _name(dice, place), f"S{number:08}"


def _name(dice: random.Random, place: int) -> str:
    if place % 40 == 20:
        return ODD[place // 40 % len(ODD)]
    words = [dice.choice(FIRST), dice.choice(SECOND), dice.choice(KIND)]
    return " ".join(words[dice.random() < 0.3 :])


def main() -> None:
    with SAMPLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["AreaCode", "StoreName", "StoreID"])
        writer.writerows(stores())


if __name__ == "__main__":
    main()
