"""Embedded text data: generated lines of book blurbs and reviews, each with a genre and a sentiment.

A seeded grammar writes them; nothing is downloaded or copied. Learning them is not trivial:

- Genre: persons, things, places and deeds are drawn from a genre's own words, some of which another genre has, too (a
  knife in cookery and crime), from words of any book, and sometimes from another genre. The row's genre always has more
  words than any other. Words are drawn by rank, so many are rare.
- Sentiment: most verdicts are direct ("a gem"); 16 % deny the opposite ("it is not dull at all") or contrast both
  ("what begins dull ends enchanting"), where the order of the words decides.
- Labels: 15 % of the rows lack one of their two labels. 5 % of the training labels are wrong; those of the validation
  and test splits are all correct, so that a perfect model scores 1.
"""

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random

from platform.errors import Fault, InputError
from platform.storage import atomic

COUNT = 2200  # 1,200 for training, 400 for validation, 600 for the test
GENRES = ("cookery", "crime", "romance", "science fiction", "travel")
SENTIMENTS = ("negative", "positive")
WORDS = (8, 25)  # least and greatest number in a sentence
NOISE = 0.05  # of the training labels
PARTIAL = 0.15  # of the rows

_SHARES = {"train": 6, "val": 2, "test": 3}  # of eleven
_SOURCE = (0.5, 0.32, 0.18)  # shares of a slot's words: the genre's own, any book's, another genre's
_VERDICT = (0.84, 0.09, 0.07)  # shares: direct, opposite denied, both contrasted
_SLOTS = ("{who}", "{does}", "{what}", "{where}")
_TAIL = 0.7  # a word of rank r is drawn in proportion to r ** -_TAIL


@dataclass(frozen=True)
class Blurb:
    """Sentence with its labels; a missing label is empty."""

    text: str
    genre: str
    sentiment: str
    split: str


def _words(text: str) -> tuple[str, ...]:
    return tuple(" ".join(text.split()).split(", "))


# fmt: off
_OWN = {  # for each genre: who, does, what, where
    "cookery": (
        _words("""
            a pastry chef, her grandmother, a baker, a village cook, the waiter, a fishmonger, a butcher, a hungry
            family, a street vendor, a retired sailor, two sisters, a beekeeper, a cheese maker, the kitchen boy, a
            young widow, a wine merchant, a home cook, the dishwasher
        """),
        _words("""
            baked, tasted, simmered, served, chopped, roasted, stirred, seasoned, grilled, shared, prepared, pickled,
            fermented, kneaded
        """),
        _words("""
            a sourdough loaf, wild garlic, a slow stew, her butter sauce, a sharp knife, roasted peppers, a lemon tart,
            fresh herbs, a family recipe, the perfect omelette, smoked salt, a pot of beans, poison mushrooms, sweet
            chestnuts, an iron pan, braised lamb, plum jam, handmade pasta, a bitter chocolate cake, pickled cucumbers,
            a bottle of red wine, oysters, warm spices, local cheese
        """),
        _words("""
            in a tiny kitchen, at the farmers' market, over an open fire, around the dinner table, in the oven, in a
            crowded restaurant, on a vineyard, in a seaside tavern, behind the bakery, at a wedding feast, in the herb
            garden, on a cast iron stove, in the pantry, in a mountain village
        """),
    ),
    "crime": (
        _words("""
            a retired detective, the inspector, a small-time thief, a private eye, the murderer, a crooked lawyer, the
            only witness, a forger, an undercover officer, a missing banker, the coroner, a young widow, a prison guard,
            the blackmailer, a journalist, a night porter, a contract killer, the prosecutor
        """),
        _words("""
            investigated, stole, hid, buried, interrogated, followed, forged, betrayed, confessed, smuggled, suspected,
            blackmailed, shadowed, identified
        """),
        _words("""
            a stolen painting, the missing body, a bloody knife, a forged passport, an unsolved murder, the false alibi,
            a ransom note, poison, a cold case, a loaded pistol, stolen diamonds, the fingerprints, a secret affair, a
            bank robbery, a trail of blood, an old grudge, the autopsy report, a suitcase of cash, the murder weapon, a
            perfect heist, a broken window, a coded message, a locked room, a bottle of red wine
        """),
        _words("""
            in a dark alley, at the police station, on the night train, behind the courthouse, in a locked room, at the
            harbour, in the morgue, under the bridge, in a rented flat, in a crowded restaurant, on death row, in the
            evidence vault, at a country manor, in the back of a van
        """),
    ),
    "romance": (
        _words("""
            a shy librarian, the stubborn duke, her childhood sweetheart, a runaway bride, a single father, the handsome
            doctor, an heiress, a lonely florist, two old lovers, the groom, a young widow, a ballet dancer, the best
            man, a soldier on leave, a wedding planner, the heartbroken cellist, her first husband, a flight attendant
        """),
        _words("""
            kissed, adored, married, missed, embraced, courted, forgave, longed for, danced with, wrote to, proposed to,
            fell for, jilted, betrayed
        """),
        _words("""
            a broken heart, the engagement ring, a love letter, her secret admirer, a stolen kiss, a second chance, the
            wrong man, a summer fling, her true feelings, a marriage of convenience, the wedding dress, a bouquet of
            roses, a secret affair, a tender promise, his jealous rival, a forbidden love, an old flame, a lock of hair,
            the first dance, a honeymoon suite, a long goodbye, sweet words, the girl next door, a bottle of champagne
        """),
        _words("""
            at the masked ball, under the mistletoe, on their honeymoon, at a wedding feast, in her arms, in the moonlit
            garden, on a vineyard, at the altar, in a seaside cottage, at a country manor, on the last dance, by
            candlelight, in a tiny bookshop, on the balcony
        """),
    ),
    "science fiction": (
        _words("""
            a starship captain, the android, a colony of clones, an alien envoy, a rogue machine, the last astronaut, a
            time traveller, a space pirate, the ship's computer, a xenobiologist, a cyborg soldier, the engineer, a
            telepath, the robot cook, a generation of settlers, a stranded pilot, the overlords, a contract killer
        """),
        _words("""
            colonised, orbited, reprogrammed, decoded, terraformed, teleported, boarded, repaired, invaded, cloned,
            scanned, launched, mapped, smuggled
        """),
        _words("""
            a dying planet, the warp drive, an alien signal, a black hole, a neural implant, the space station, a broken
            android, a wormhole, an army of robots, a distant galaxy, the time machine, a coded message, a virus from
            orbit, frozen embryos, a laser cannon, the star charts, a forbidden moon, quantum memories, an escape pod,
            the asteroid belt, a cargo of ore, a parallel universe, the last satellite, a memory chip
        """),
        _words("""
            on a desert moon, beyond the outer rim, in zero gravity, aboard a cargo ship, in deep space, on a ruined
            earth, in a domed city, near a dying star, at the docking bay, in the year three thousand, under two suns,
            inside the simulation, on the red planet, at the edge of the map
        """),
    ),
    "travel": (
        _words("""
            a lone backpacker, the tour guide, a retired sailor, two cyclists, a mountain guide, the bus driver, a
            family of nomads, a ferry captain, a pilgrim, the innkeeper, a photographer, a desert caravan, the muleteer,
            a journalist, a flight attendant, the hitchhiker, a cartographer, an old fisherman
        """),
        _words("""
            crossed, explored, climbed, photographed, visited, sailed past, walked to, rode through, mapped, discovered,
            returned to, wandered through, circled, boarded
        """),
        _words("""
            the silk road, a ruined temple, an island of goats, the night market, a rope bridge, the old harbour, a
            mountain pass, a remote monastery, the coral reef, a worn passport, endless rice fields, a hidden beach, the
            great river, a sleeper train, a volcano, the salt flats, wild horses, an ancient map, a fishing village, the
            rain forest, a glacier, street food, local cheese, a desert well
        """),
        _words("""
            across the steppe, at the border, on a slow ferry, in a mountain village, on the night train, along the
            coast, in the monsoon, at the harbour, in a seaside tavern, south of the equator, at the edge of the map, in
            the highlands, on a gravel road, in a cheap hostel
        """),
    ),
}
_ANY = (
    _words("""
        a young woman, two brothers, an old man, a stranger, my neighbour, the narrator, three friends, a mother and her
        son, the heroine, an orphan, the twins, a teacher
    """),
    _words("found, lost, remembered, wanted, looked for, brought, left, needed, described, watched, kept, discovered"),
    _words("""
        a letter, an old photograph, a family secret, the truth, a small house, a new life, the past, a promise, a stray
        dog, some money, a long silence, an unfinished diary
    """),
    _words("""
        in a small town, by the sea, one winter, after the war, in the big city, on the last day of summer, far from
        home, over the years, in the rain, on the other side of the river, at dawn, during a storm
    """),
)
_ADJECTIVES = (
    _words("""
        boring, dull, clumsy, tedious, shallow, predictable, tiresome, forgettable, messy, lifeless, bland, confusing,
        pointless, sloppy, stale, hollow, wooden, dreary, awkward, lazy, muddled, grating
    """),
    _words("""
        wonderful, gripping, charming, clever, funny, moving, brilliant, delightful, elegant, fresh, memorable, honest,
        thrilling, vivid, graceful, touching, enchanting, witty, masterful, absorbing, subtle, sparkling
    """),
)
_NOUNS = (
    _words("mess, chore, letdown, failure, slog, muddle, disaster, bore, misfire, blunder"),
    _words("triumph, delight, gem, joy, masterpiece, treat, pleasure, marvel, success, wonder"),
)
# {a} and {n}: an adjective and a noun of the sentiment; {o} and {p}: of the opposite.
_OUTRIGHT = _words("""
    it is a {a} book, it is {adv} {a}, I found it {adv} {a}, this is a {n}, the prose is {a} and the ending a {n}, every
    page is {a}, it reads like a {a} dream, what a {n}, the whole thing is {a}, it turned out to be a {n}, the plot is
    {a} and the dialogue {a}, the author has written a {a} story
""")
_DENIED = _words("""
    it is not {o} at all, it is hardly a {p}, it was never {o}, it is anything but {o}, it is far from {o}, nobody could
    call it {o}, I would not say that it is {o}, there is nothing {o} about it, not for a moment is it {o}, this is no
    {p}, it is not {adv} {o}, no {p} was to be found
""")
_BOTH = _words("""
    I expected a {p} and got a {n}, what begins {o} ends {a}, the start is {o} but the rest {a}, it is less {o} than
    {a}, it is more {a} than {o}, the critics called it a {p} but it is a {n}, it looks {o} and proves {a}, despite some
    {o} moments it is a {n}, it is a {n} and not a {p}, {a} scenes outnumber the {o} ones
""")
_ADVERBS = _words("truly, rather, simply, quite, really, consistently, surprisingly, utterly, mostly, thoroughly")
_FILLERS = _words("""
    on the whole, in the second part, according to my sister, on a rainy weekend, to my mind, in this translation, from
    the first chapter on, as so often, over four hundred pages, in the paperback edition
""")
_FORMS = (  # {who} {does} {what} {where} tell of the genre, {verdict} of the sentiment
    "{who} {does} {what} {where}, and {verdict}", "{verdict}, this {book} about {who} and {what}",
    "{who} {does} {what} {where}; {filler} {verdict}", "{verdict}: {who} {does} {what} {where}",
    "{filler} {verdict}, this tale of {what} {where}", "when {who} {does} {what}, {verdict}",
    "{where} {who} {does} {what}, and {filler} {verdict}", "{who}, {what} and {what}: {verdict}",
    "a {book} of {who} {where} with {what}: {verdict}", "I read of {what} and {who} {where}, and {verdict}",
    "{verdict}; {filler} {verdict}, this {book} of {what}", "{who} {does} {what}, {verdict}, and {verdict}",
    "{verdict}, and {verdict}: {who} {where}", "{who} and {what}: {filler} {verdict}, and {verdict}",
)
_BOOKS = _words("story, tale, book, volume, debut, sequel, paperback")
# fmt: on


def write(path: Path, seed: int, count: int = COUNT) -> Path:
    """Write the sentences as CSV with the columns text, genre, sentiment and split, unless the same file exists.

    The file appears whole or not at all, and the same arguments give the same bytes.

    Args:
        path: File to write.
        seed: Seed of all random choices.
        count: Number of sentences in all splits.

    Returns:
        `path`.

    Raises:
        InputError: `path` holds something else, or `count` is too small for three splits.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("text", "genre", "sentiment", "split"))
    writer.writerows((blurb.text, blurb.genre, blurb.sentiment, blurb.split) for blurb in blurbs(seed, count))
    content = table.getvalue().encode()
    if path.exists():
        if not path.is_file() or path.read_bytes() != content:
            rule = f"{path} must hold these sentences or not exist"
            raise InputError(Fault(rule, "other content", "Remove it or choose another place."))
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.new_file(path) as partial:  # also if another process was faster, with the same bytes
        partial.write_bytes(content)
    return path


def blurbs(seed: int, count: int = COUNT) -> list[Blurb]:
    """Return distinct sentences, ordered by split, with genres and sentiments in nearly equal numbers in each split.

    Raises:
        InputError: `count` leaves a split without all genres and sentiments.
    """
    least = 10 * sum(_SHARES.values()) // min(_SHARES.values())
    if count < least:
        raise InputError(Fault(f"there must be at least {least} sentences", str(count), f"Try {COUNT}."))
    random, made, used = Random(seed), [], set()
    val, test = (count * _SHARES[split] // sum(_SHARES.values()) for split in ("val", "test"))
    for split, number in (("train", count - val - test), ("val", val), ("test", test)):
        for index in range(number):
            genre, sentiment = GENRES[index % 5], index // 5 % 2
            while (text := sentence(random, genre, sentiment)) in used:
                pass
            used.add(text)
            labels = [genre, SENTIMENTS[sentiment]]
            for head, names in enumerate((GENRES, SENTIMENTS)):
                if random.random() < NOISE and split == "train":
                    labels[head] = random.choice([name for name in names if name != labels[head]])
            if random.random() < PARTIAL:
                labels[random.randrange(2)] = ""
            made.append(Blurb(text, labels[0], labels[1], split))
    return made


def sentence(random: Random, genre: str, sentiment: int) -> str:
    """Return a sentence of a genre and of a sentiment, 0 for negative and 1 for positive."""
    while True:
        text = random.choice(_FORMS)
        speaks_of: Counter[str] = Counter()  # genres, by how many of the words they have
        for kind, slot in enumerate(_SLOTS):
            while slot in text:
                source = random.choices((genre, "", random.choice(GENRES)), _SOURCE)[0]
                word = _ranked(random, _OWN[source][kind] if source else _ANY[kind])
                speaks_of.update(name for name in GENRES if word in _OWN[name][kind])
                text = text.replace(slot, word, 1)
        while "{verdict}" in text:
            text = text.replace("{verdict}", _verdict(random, sentiment), 1)
        text = text.replace("{filler}", random.choice(_FILLERS)).replace("{book}", random.choice(_BOOKS))
        most = max(speaks_of.values(), default=0)
        if [name for name in GENRES if most and speaks_of[name] == most] != [genre]:
            continue  # another genre, several or none would have the most words
        if WORDS[0] <= len(text.split()) <= WORDS[1]:
            return text[0].upper() + text[1:] + "."


def _verdict(random: Random, sentiment: int) -> str:
    text = random.choice(random.choices((_OUTRIGHT, _DENIED, _BOTH), _VERDICT)[0])
    opposite = 1 - sentiment
    words = {"{a}": _ADJECTIVES[sentiment], "{o}": _ADJECTIVES[opposite], "{n}": _NOUNS[sentiment],
             "{p}": _NOUNS[opposite], "{adv}": _ADVERBS}  # fmt: skip
    for slot, choice in words.items():
        while slot in text:
            text = text.replace(slot, _ranked(random, choice), 1)
    return re.sub(r"\ba (?=[aeio]|honest)", "an ", text)


def _ranked(random: Random, words: tuple[str, ...]) -> str:
    return random.choices(words, [(rank + 1) ** -_TAIL for rank in range(len(words))])[0]
