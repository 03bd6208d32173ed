"""The small world the model knows: flowers, animals, characters, times, weather."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flower:
    """One flower; `rank` orders the flowers by height."""

    name: str
    plural: str
    colour: str
    size: str
    rank: int
    season: str
    place: str
    note: str

    @property
    def any(self) -> str:
        """One of them, unnamed so far: `a rose`, `some clover`."""
        return f"some {self.name}" if self.name == self.plural else f"a {self.name}"


@dataclass(frozen=True)
class Animal:
    """One animal; `rank` orders the animals by size."""

    name: str
    plural: str
    legs: int
    rank: int
    food: str
    home: str
    note: str


@dataclass(frozen=True)
class Character:
    """Somebody in the stories; `they` is "she" or "he"."""

    name: str
    they: str
    what: str
    likes: str
    home: str

    @property
    def their(self) -> str:
        """The possessive pronoun."""
        return {"she": "her", "he": "his"}[self.they]

    @property
    def them(self) -> str:
        """The object pronoun."""
        return {"she": "her", "he": "him"}[self.they]


FLOWERS = [
    Flower("rose", "roses", "red", "tall", 13, "summer", "by the garden wall", "It has sharp thorns on its stem."),
    Flower("daisy", "daisies", "white", "small", 3, "spring", "in the meadow", "It closes its petals at night."),
    Flower("tulip", "tulips", "pink", "small", 7, "spring", "in the flower bed", "It looks like a little cup."),
    Flower("poppy", "poppies", "red", "tall", 10, "summer", "in the field", "Its petals are as thin as paper."),
    Flower("violet", "violets", "purple", "small", 2, "spring", "under the hedge", "It hides in the shade."),
    Flower("sunflower", "sunflowers", "yellow", "tall", 16, "summer", "by the fence", "It turns its face to the sun."),
    Flower("lavender", "lavender", "purple", "small", 8, "summer", "by the path", "It smells sweet, and bees love it."),
    Flower(
        "clover", "clover", "white", "small", 4, "summer", "in the grass", "It has three leaves, and sometimes four."
    ),
    Flower(
        "foxglove", "foxgloves", "pink", "tall", 14, "summer", "near the trees", "A bee can climb right into its bells."
    ),
    Flower(
        "bluebell", "bluebells", "blue", "small", 6, "spring", "in the wood", "It hangs its head like a little bell."
    ),
    Flower("lily", "lilies", "white", "tall", 12, "summer", "near the pond", "It has a strong, sweet smell."),
    Flower("marigold", "marigolds", "orange", "small", 9, "autumn", "in the flower bed", "It blooms for a long time."),
    Flower(
        "dandelion", "dandelions", "yellow", "small", 5, "spring", "in the grass", "Its seeds fly away on the wind."
    ),
    Flower("snowdrop", "snowdrops", "white", "small", 1, "winter", "under the hedge", "It blooms even in the snow."),
    Flower("thistle", "thistles", "purple", "tall", 11, "autumn", "in the field", "It is full of prickles."),
    Flower(
        "hollyhock", "hollyhocks", "pink", "tall", 15, "summer", "by the garden wall", "It can grow as high as a door."
    ),
]

ANIMALS = [
    Animal("bee", "bees", 6, 3, "nectar and pollen", "in the hive", "It has four wings and can dance."),
    Animal("butterfly", "butterflies", 6, 5, "nectar", "in the meadow", "It was once a caterpillar."),
    Animal(
        "ladybird", "ladybirds", 6, 2, "tiny green flies", "on the rose leaves", "It has black spots on its red back."
    ),
    Animal("ant", "ants", 6, 1, "crumbs and seeds", "under a stone", "It can carry things much bigger than itself."),
    Animal("spider", "spiders", 8, 4, "flies", "in its web", "It spins silk."),
    Animal("snail", "snails", 0, 7, "leaves", "in its shell", "It is very slow."),
    Animal("worm", "worms", 0, 6, "old leaves", "in the soil", "It makes the soil soft."),
    Animal("cricket", "crickets", 6, 8, "grass", "in the tall grass", "It sings in the evening."),
    Animal("frog", "frogs", 4, 9, "flies and snails", "in the pond", "It can jump far."),
    Animal("mouse", "mice", 4, 10, "seeds and berries", "in a hole in the wall", "It has a long tail."),
    Animal("robin", "robins", 2, 11, "worms and berries", "in the hedge", "It has a red breast."),
    Animal("mole", "moles", 4, 12, "worms", "under the ground", "It digs long tunnels."),
    Animal("squirrel", "squirrels", 4, 13, "nuts", "in the oak tree", "It hides nuts for the winter."),
    Animal("owl", "owls", 2, 14, "mice", "in the old barn", "It flies at night and makes no sound."),
    Animal(
        "hedgehog",
        "hedgehogs",
        4,
        15,
        "beetles and slugs",
        "under a pile of leaves",
        "It rolls up into a ball when it is afraid.",
    ),
    Animal("duck", "ducks", 2, 16, "water plants", "by the pond", "Its feathers stay dry in the rain."),
    Animal("rabbit", "rabbits", 4, 17, "grass and clover", "in a burrow", "It has long ears."),
    Animal("fox", "foxes", 4, 18, "mice and berries", "in a den in the wood", "It has a bushy red tail."),
]

CHARACTERS = [
    Character("Zoé", "she", "scout bee", "lavender", "in the blue hive"),
    Character("Maya", "she", "worker bee", "clover", "in the old hive under the apple tree"),
    Character("Nell", "she", "nurse bee", "warm honey", "in the blue hive"),
    Character("Bella", "she", "guard bee", "marigolds", "at the door of the blue hive"),
    Character("Pip", "she", "young bee", "daisies", "in the white hive"),
    Character("Renée", "she", "queen bee", "royal jelly", "in the middle of the white hive"),
    Character("Otto", "he", "drone", "sunny days", "in the white hive"),
    Character("Flora", "she", "butterfly", "violets", "in the meadow"),
    Character("Sam", "he", "snail", "wet leaves", "by the garden wall"),
    Character("Hugo", "he", "hedgehog", "cool nights", "under a pile of leaves"),
    Character("Olive", "she", "owl", "the moon", "in the old barn"),
    Character("Finn", "he", "frog", "the rain", "in the pond"),
    Character("Anna", "she", "beekeeper", "honey on bread", "in the house by the garden"),
]

BEES = CHARACTERS[:6]
FRIENDS = CHARACTERS[7:12]

COLOURS = ["red", "orange", "yellow", "white", "pink", "purple", "blue"]
TREES = ["apple tree", "cherry tree", "pear tree", "oak", "willow", "birch", "lime tree", "hazel"]
FRUITS = ["apples", "pears", "cherries", "plums", "berries"]
TOOLS = ["spade", "rake", "watering can", "basket", "bucket", "broom"]
JOBS = ["cleaner", "nurse", "builder", "guard", "scout", "gatherer"]
HIVE_THINGS = ["wax", "honey", "pollen", "eggs", "young bees", "a queen"]
SEASONS = ["spring", "summer", "autumn", "winter"]
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = ("January February March April May June July August September October November December").split()
# March to May is spring, and so on.
MONTH_SEASON = {month: SEASONS[(i - 2) % 12 // 3] for i, month in enumerate(MONTHS)}
TIMES = {
    "at dawn": "the bees wake up and warm their wings",
    "in the morning": "the bees fly out to the first flowers",
    "at noon": "the bees carry water to cool the hive",
    "in the afternoon": "the bees bring home pollen and nectar",
    "in the evening": "the bees fly home to the hive",
    "at night": "the bees rest and keep the hive warm",
}
SEASON_LIFE = {
    "spring": ("the bees fly out to the first flowers", "The days grow warm and the garden turns green."),
    "summer": ("the bees gather nectar and make honey", "The days are long and the garden is full of flowers."),
    "autumn": ("the bees store the last honey and close the hive", "The leaves turn yellow and fall."),
    "winter": ("the bees stay in the hive and keep each other warm", "The garden sleeps under the snow."),
}
WEATHER = {
    "sunny": ("warm", "the bees are out on the flowers", "The sky is blue."),
    "rainy": ("wet", "the bees stay at home", "Drops are falling on the leaves."),
    "windy": ("fresh", "the bees fly low over the grass", "The tall flowers bend and sway."),
    "cloudy": ("mild", "a few bees are out", "The sky is grey."),
    "foggy": ("still", "the bees wait for the sun", "You can hardly see the hedge."),
    "snowy": ("cold", "the bees keep warm in the hive", "The whole garden is white."),
    "stormy": ("dark", "the bees hide in the hive", "There is thunder over the hill."),
}
