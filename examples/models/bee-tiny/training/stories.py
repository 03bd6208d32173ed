"""Stories about the characters of the garden, short, middling and long."""

from __future__ import annotations

from random import Random

from language import a, say
from world import BEES, CHARACTERS, FLOWERS, FRIENDS, Character

OPENINGS = [
    "Once upon a time there was {a_what} called {name}. {They} lived {home}.",
    "In a green garden lived {a_what} called {name}. {They} loved {likes} more than anything.",
    "There once was {a_what} whose name was {name}. {Their} home was {home}.",
    "{name} was {a_what}. {They} lived {home}, and {they} loved {likes}.",
]
MORNINGS = [
    "One [sunny|warm|bright|cool] morning {they} looked out and saw that the sky was [blue|clear].",
    "One day in {season} the sun was warm, and the [whole garden|air] smelled of flowers.",
    "Early one morning, when the grass was still wet with dew, {name} woke up.",
    "It was a [quiet|fine|lovely] day in {season}, and a soft wind came over the hedge.",
]
WISHES = [
    '"Today I will find {a_flower}," said {name}. So {they} set out.',
    "{name} wanted to see the {flower} that grew {place}. So {they} set off at once.",
    '"I wonder what is {place}," said {name}. And off {they} went.',
    '{name} felt the warm air and thought of {a_flower}. "I will go and look for one," {they} said.',
]
VISITS = [
    '"Today is a good day to visit my friend {friend}," said {name}, and {they} started on {their} way.',
    '{name} had not seen {friend} for a long time. "I will visit {friend_them}," {they} said, and {they} set out.',
]
TROUBLES = [
    "Soon the sky grew dark, and it began to rain. {name} hid under a big leaf. [The drops fell like little drums.|{They} waited until the last drop had fallen.] When the sun came back, {they} shook off the water and went on.",
    'By the path hung a spider\'s web, and {name} nearly got stuck in it. "Be careful," said the spider. "Thank you," said {name}, and {they} went around it.',
    'Then a strong wind came and carried {name} over the hedge. "Where am I?" {they} asked. Far away {they} could see the apple tree, and so {they} knew the way again.',
    'Near the old wall {they} met {friend} the {friend_what}. "I am [so hungry|so tired|all alone]," said {friend}. {name} [shared some honey with|sat down next to] {friend_them}, and soon {friend_they} was happy again.',
    'At the pond {they} stopped to drink. A small ant had fallen into the water. {name} pushed a leaf to the ant, and the ant climbed onto it. "You saved me!" cried the ant.',
    "Then the fog came, and {name} could not see the path. {They} sat very still and listened. From far away came the hum of the hive, and {they} followed the sound.",
    'On the way {they} saw a daisy that had closed its petals. "Why are you sad?" asked {name}. "I am thirsty," said the daisy. So {name} brought it a drop of water, and it opened again.',
    'Under the hedge sat a little mouse that was lost. "Where is your home?" asked {name}. "In the wall," said the mouse. {name} showed it the way, and the mouse was very glad.',
]
FINDINGS = [
    "At last {name} found {a_flower}. It was {colour}, and it grew {place}. It was the most beautiful flower {they} had ever seen.",
    "And there, {place}, stood {a_flower}. Its {colour} petals shone in the sun. {name} was so happy that {they} [danced|laughed|sang].",
    'In the end {they} came to the {flower} {place}. "Welcome," said the {flower}, and it opened its {colour} petals.',
]
MEETINGS = [
    'There {they} met {friend} the {friend_what}. "[Hello|Good day], {name}," said {friend}. "Come and rest with me." They talked about [the weather|the flowers|honey] until the sun was low.',
    "{friend} the {friend_what} was there too. They shared [a drop of honey|the last of the nectar] and told each other stories.",
]
ENDINGS = [
    "In the evening {name} went home and told the others about it. Then {they} fell asleep.",
    'When the sun went down, {name} was home again. "What a lovely day," {they} said.',
    "That night {name} dreamed of {flowers}. The end.",
    "{name} came home tired and happy, and everybody in the garden slept well that night.",
]
FRIENDLY_ENDING = "And from that day on, {name} and {friend} were the best of friends."
TITLES = ["The Story of {name}", "{name}'s Long Day", "A Day in the Garden", "{name} in the Garden"]


def _slots(rng: Random, hero: Character, flower_name: str | None) -> dict[str, str]:
    """The words that fill the sentences of one story."""
    friend = rng.choice([c for c in FRIENDS if c.name != hero.name])
    in_season = [f for f in FLOWERS if f.season != "winter"]
    named = [f for f in FLOWERS if f.name == flower_name]
    flower = rng.choice(named or in_season)
    return {
        "name": hero.name, "a_what": a(hero.what), "home": hero.home, "likes": hero.likes,
        "they": hero.they, "They": hero.they.capitalize(),
        "their": hero.their, "Their": hero.their.capitalize(),
        "friend": friend.name, "friend_what": friend.what,
        "friend_they": friend.they, "friend_them": friend.them,
        "flower": flower.name, "flowers": flower.plural, "a_flower": flower.any,
        "colour": flower.colour, "place": flower.place, "season": flower.season,
    }  # fmt: skip


def hero_for(rng: Random, subject: str) -> Character:
    """A character that fits the subject of a story: a name, a kind or anything."""
    fitting = [c for c in CHARACTERS if subject in (c.name, c.what)]
    return rng.choice(fitting or BEES)


def story(rng: Random, subject: str = "bee", length: str = "middling") -> str:
    """One story of `length` "short", "middling" or "long" (paragraphs, 150 to 350 tokens)."""
    hero = hero_for(rng, subject)
    slots = _slots(rng, hero, subject)
    opening = say(rng, rng.choice(OPENINGS), **slots)
    morning = say(rng, rng.choice(MORNINGS), **slots)
    wish = say(rng, rng.choice(WISHES + VISITS if length == "long" else WISHES), **slots)
    finding = say(rng, rng.choice(FINDINGS), **slots)
    ending = say(rng, rng.choice(ENDINGS), **slots)
    if length == "short":
        return " ".join([opening, morning, finding, ending])
    count = 1 if length == "middling" else rng.randint(3, 4)
    troubles = [say(rng, t, **slots) for t in rng.sample(TROUBLES, count)]
    if length == "middling":
        return " ".join([opening, morning, wish, *troubles, finding, ending])
    meeting = say(rng, rng.choice(MEETINGS), **slots)
    if rng.random() < 0.4:
        ending = say(rng, FRIENDLY_ENDING, **slots)
    parts = [f"{opening} {morning} {wish}", *troubles, f"{finding} {meeting}", ending]
    return "\n\n".join(parts)


def titled_story(rng: Random) -> str:
    """A story as a document of its own, sometimes under a title."""
    hero = rng.choice(CHARACTERS)
    length = rng.choice(["short", "middling", "middling", "long"])
    text = story(rng, hero.name, length)
    if rng.random() < 0.3:
        return f"{rng.choice(TITLES).format(name=hero.name)}\n\n{text}"
    return text
