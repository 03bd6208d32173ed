"""Short rhymed poems: two or three couplets about one topic."""

from __future__ import annotations

from random import Random

COUPLETS = {
    "bee": [
        "A little bee flies out at dawn,\nacross the wet and shining lawn.",
        "She hums a song so soft and low,\nand only all the flowers know.",
        "Buzz, little bee, the day is bright,\nbe home again before the night.",
        "With golden dust upon her knees\nshe sails along the summer breeze.",
        "She drinks a drop, she takes no more,\nand carries it to her own door.",
        "Her wings are small, her heart is strong,\nshe works and hums the whole day long.",
    ],
    "flower": [
        "A flower opens, soft and slow,\nto watch the clouds and bees that go.",
        "Its petals hold the morning dew,\nas clear as glass, as fresh, as new.",
        "Red and yellow, white and blue,\na flower waits for bees and you.",
        "It bends its head when breezes blow,\nand nods to all the grass below.",
        "A sweet, sweet smell is in the air,\na little rose is growing there.",
        "The rain comes down, the sun comes out,\nand little leaves begin to sprout.",
    ],
    "hive": [
        "Inside the hive the wax is warm,\nand safe from every winter storm.",
        "Six little walls for every cell,\nthe bees can build them all so well.",
        "A thousand sisters, side by side,\nkeep all the honey stored inside.",
        "The guard bee stands beside the door,\nand lets in one and then one more.",
        "The queen sits still, the workers run,\nthe hive is humming in the sun.",
    ],
    "honey": [
        "Golden honey, thick and sweet,\nsummer that is good to eat.",
        "A drop of sun, a drop of gold,\nto keep the bees from winter cold.",
        "From flower cup to waxen cell,\nit keeps the taste of summer well.",
        "Spread it softly on your bread,\nand thank the bees, the flowers said.",
        "They fan it long, they fan it slow,\nuntil the nectar starts to glow.",
    ],
    "garden": [
        "The garden wakes, the robin sings,\nthe bees all warm their little wings.",
        "The pond is still, the path is green,\nthe prettiest I have ever seen.",
        "The snail goes slowly up the wall,\nand does not hurry there at all.",
        "The apple tree, the gate, the hive,\nthe whole green garden is alive.",
        "And when the moon begins to rise,\nthe garden slowly shuts its eyes.",
    ],
    "weather": [
        "The rain comes down on leaf and stone,\nthe bees stay warm inside their home.",
        "The sun comes up, the sky is clear,\nthe humming of the bees is near.",
        "The wind goes running through the trees,\nand tickles all the flying bees.",
        "The snow lies soft on field and hill,\nthe hive is warm, the world is still.",
        "A cloud, a drop, a bit of sun,\nand now the flowers have begun.",
    ],
    "time": [
        "In spring the little buds are green,\nthe finest that were ever seen.",
        "In summer all the world is light,\nand flowers bloom from morn to night.",
        "In autumn leaves come floating down,\nin red and gold and nutty brown.",
        "In winter all the garden sleeps,\nand safe and warm the bee hive keeps.",
        "The day is done, the stars are high,\na sleepy moon is in the sky.",
    ],
    "animal": [
        "The snail, the frog, the mouse, the mole,\neach has a house or has a hole.",
        "The robin sings, the crickets play,\nthe owl will sleep the day away.",
        "A hedgehog shuffles in the night,\nthe moon above is round and white.",
        "The butterfly goes up and down,\nand wears the garden's finest gown.",
        "All creatures, be they great or small,\nthe garden has a place for all.",
    ],
    "friend": [
        "Hello, hello, my friend so dear,\nI am so glad to see you here.",
        "A friend is like the morning sun,\nand warms the heart of everyone.",
        "Come, sit with me beneath the trees,\nand listen to the humming bees.",
        "I am a bee, I am so small,\nI only know the garden wall.",
        "Ask me of flowers, bees and dew,\nand I will sing a song for you.",
    ],
}


def poem(rng: Random, topic: str, couplets: int = 2) -> str:
    """A poem of `couplets` different couplets about `topic`, in the bank's order."""
    bank = COUPLETS[topic]
    chosen = sorted(rng.sample(range(len(bank)), couplets))
    return "\n".join(bank[i] for i in chosen)
