"""Convert two public data sets to tables that `sentences` reads: book titles with a genre, reviews with a sentiment.

python -m benchmarks.real_texts book30-listing-test.csv rt-polarity.pos rt-polarity.neg --out texts
python -m platform.tune sentences --data texts/titles.csv --data texts/reviews.csv

The titles: Iwana et al. 2016, "Judging a Book By its Cover" (30 genres). The reviews: Pang and Lee 2005, "Seeing stars"
(sentences of the Rotten Tomatoes site).
"""

import argparse
from pathlib import Path

import pandas as pd


def main() -> None:
    """Write titles.csv and reviews.csv."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.real_texts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("listing", type=Path, help="list of the books, with title and genre in columns 4 and 7")
    p.add_argument("positive", type=Path, help="positive reviews, one a line")
    p.add_argument("negative", type=Path, help="negative reviews, one a line")
    p.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = p.parse_args()
    # a few titles of the published file are not valid UTF-8
    books = pd.read_csv(options.listing, header=None, encoding="utf-8", encoding_errors="replace", dtype=str)
    titles = pd.DataFrame({"text": books[3], "genre": books[6]})
    reviews = [
        {"text": line.strip(), "sentiment": sentiment}
        for sentiment in ("positive", "negative")
        for line in getattr(options, sentiment).read_text(encoding="utf-8").split("\n")
        if line.strip()
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    titles.to_csv(options.out / "titles.csv", index=False)
    pd.DataFrame(reviews).to_csv(options.out / "reviews.csv", index=False)
    print(f"{len(titles)} titles, {len(reviews)} reviews: {options.out}")


if __name__ == "__main__":
    main()
