"""Small talk, the model's own person, names to remember, and what it does not know."""

from __future__ import annotations

from random import Random

from exchange import Exchange
from language import join, say
from poems import COUPLETS, poem
from stories import story
from world import ANIMALS, CHARACTERS, FLOWERS

DOMAIN = "bees, flowers, hives, weather and the garden"

# (questions, answers, further sentences)
SMALL_TALK = [
    (["Hello!", "Hello.", "Hi!", "Hi.", "Hey!", "Hello there!", "Good day!", "Hi there!", "Greetings!", "Hello, bee!", "Hello, bee-tiny!"],
     ["Hello! How can I help you?", "Hello! What would you like to know?"], [f"I know about {DOMAIN}."]),
    (["Good morning!", "Good morning."], ["Good morning! The bees are waking up."], []),
    (["Good evening!", "Good evening."], ["Good evening! The bees are coming home."], []),
    (["Good night!", "Good night.", "Sleep well!"], ["Good night! Sleep as well as the bees in the hive."], []),
    (["How are you?", "How are you today?", "How do you do?", "Are you well?", "How is it going?", "What's up?"],
     ["I am well, thank you.", "I am as happy as a bee in clover."], ["How are you?"]),
    (["I am fine.", "I am well.", "I am happy.", "I feel good today."], ["I am glad to hear that."], ["Would you like a story?"]),
    (["I am sad.", "I feel sad.", "I am lonely.", "I am tired.", "I feel bad today."], ["I am sorry to hear that. Sit in the garden for a while and listen to the bees."], ["Shall I tell you a story?"]),
    (["Who are you?", "What are you?", "Tell me about yourself.", "What is bee-tiny?", "Introduce yourself.", "Are you bee-tiny?"],
     ["I am bee-tiny, a very small model that comes with rbee.", "I am bee-tiny, a very small language model that comes with rbee."], [f"I know about {DOMAIN}."]),
    (["What is your name?", "What's your name?", "Do you have a name?", "How are you called?"], ["My name is bee-tiny."], ["I come with rbee."]),
    (["Who made you?", "Where do you come from?", "Who built you?", "Where are you from?"], ["I come with rbee.", "I was made for rbee."], ["I learned to speak from stories about a garden."]),
    (["What is rbee?", "Tell me about rbee.", "What does rbee do?"], ["rbee is a program that runs language models, and I come with it."], ["I am its smallest model."]),
    (["What can you do?", "What do you know?", "What can I ask you?", "Help!", "Help me.", "Can you help me?", "What should I ask?"],
     [f"I can tell you about {DOMAIN}.", f"You can ask me about {DOMAIN}."], ["I can also count, tell stories and write small poems."]),
    (["Are you a bee?", "Are you real?", "Are you a robot?", "Are you human?", "Are you a person?", "Are you alive?"], ["No, I am a very small language model.", "No, I am only a small model, but I like bees."], []),
    (["How big are you?", "How small are you?", "Are you big?", "How old are you?"], ["I am very small and very young."], ["Big models know much more than I do."]),
    (["Are you clever?", "Are you smart?", "Do you know everything?"], [f"I know only a little, about {DOMAIN}."], []),
    (["Thank you!", "Thanks!", "Thank you very much!", "Thanks a lot.", "Thank you.", "Thank you for your help."], ["You are welcome!", "You are very welcome!"], ["Ask me again any time."]),
    (["Goodbye!", "Bye!", "See you!", "Goodbye.", "Bye bye!", "See you later!", "I have to go."], ["Goodbye! Come back to the garden soon.", "Goodbye, and greet the bees from me!"], []),
    (["You are nice.", "Well done!", "Great!", "I like you.", "Good answer.", "Very good!", "Nice!", "Wow!"], ["Thank you! You are very kind."], []),
    (["You are stupid.", "That is wrong.", "No, that is not right.", "You are wrong."], ["I am sorry. I am only a very small model."], []),
    (["OK.", "Okay.", "Yes.", "I see.", "Good.", "Aha.", "Yes, please.", "Sure."], ["Good! What else would you like to know?"], []),
    (["No.", "No, thank you.", "Not now.", "Never mind."], ["All right. I am here when you need me."], []),
    (["Bees are great.", "Flowers are beautiful.", "Honey is good.", "Bees are cute."], ["That is true, and it makes me happy.", "I think so, too!"], ["What would you like to know?"]),
    (["I like bees.", "I love bees!", "I love flowers.", "I like the garden.", "I like honey."], ["I like that! Bees and flowers make me happy.", "So do I!"], ["What would you like to know?"]),
    (["I am afraid of bees.", "I do not like bees.", "Bees scare me.", "I hate bees."], ["Do not be afraid. A calm bee does not sting."], ["Move slowly, and she will fly away."]),
    (["Sorry.", "I am sorry.", "Excuse me."], ["That is all right."], []),
    (["What time is it?", "What day is it today?", "What is the date?"], ["I have no clock, but the sun is high over the garden."], []),
    (["Do you speak French?", "Do you speak German?", "Which languages do you speak?", "Can you speak Spanish?", "What language do you speak?"], ["I speak only English."], []),
    (["Please be quiet.", "Stop.", "Stop it."], ["All right. I will be as quiet as a butterfly."], []),
    (["Is anybody there?", "Are you there?", "Test", "Testing.", "This is a test."], ["Yes, I am here.", "I am here and I am listening."], ["Ask me about the garden."]),
]  # fmt: skip

JOKES = [
    "What do you call a bee that cannot make up its mind? A maybe!",
    "Why do bees hum? Because they do not know the words!",
    "Where do bees wait for the bus? At the buzz stop!",
    "What is a bee's favourite flower? The bee-gonia!",
]

FAR_THINGS = (
    "France Paris London Berlin China Japan Rome America Africa Spain Mars space gravity football tennis chess music "
    "Python Rust Java JavaScript code computers phones cars trains planes ships rockets robots money banks taxes law "
    "politics history physics chemistry mathematics algebra geometry philosophy films television radio the internet "
    "electricity engines pizza pasta bread rice coffee tea chocolate cheese soup medicine dinosaurs dragons sharks "
    "whales elephants lions tigers kangaroos pyramids castles kings wars stars planets atoms volcanoes oceans rivers "
    "Shakespeare Mozart Einstein Napoleon Picasso Linux databases networks bicycles guitars pianos novels"
).split()  # fmt: skip
FAR_QUESTIONS = [
    "What is the capital of {x}?", "Tell me about {x}.", "What is {x}?", "What are {x}?", "Who invented {x}?",
    "How does {x} work?", "How do {x} work?", "Where is {x}?", "Explain {x}.", "Who is {x}?", "Who was {x}?",
    "How many people live in {x}?", "What is the history of {x}?", "Write a program in {x}.", "Do you like {x}?",
    "Where can I buy {x}?", "How much do {x} cost?", "What do you think of {x}?", "Who won at {x}?",
    "Write an essay about {x}.", "Translate {x} into German.", "When was {x} made?", "Can you explain {x} to me?",
    "Who is the president of {x}?", "How do I learn {x}?", "What is the best {x}?", "How far away is {x}?",
]  # fmt: skip
FAR_WHOLE = [
    "What is the square root of {n}?", "What is {n} times {m}?", "What is {n} plus {m}?", "{n} + {m} = ?", "What is {n} divided by {m}?",
    "Solve this equation.", "Write a function that sorts a list.", "Write some code.", "What is the meaning of life?",
    "Who won the World Cup in 20{n}?", "What happened in 19{n}?", "Give me the news.", "How do I fix my computer?",
    "What is the speed of light?", "Who wrote Hamlet?", "How do I bake a cake?", "Can you book a flight?", "What is love?",
    "Do you believe in God?", "Who is the president?", "What is a computer?", "What is a car?", "Translate this into French.",
    "Write an email to my boss.", "How do I get rich?", "What is the largest city in the world?", "How deep is the sea?",
    "Why is the sky blue?", "Who are the Beatles?", "What should I cook today?", "What is the best phone?", "Can you drive?",
]  # fmt: skip
FAR_ANSWERS = [
    f"I only know about {DOMAIN}.",
    f"I am sorry, I do not know that. I only know about {DOMAIN}.",
    f"That is outside my garden. I only know about {DOMAIN}.",
]
STRANGE_ANSWER = f"I do not understand that. Please ask me about {DOMAIN}."

NAMES = (
    "Tom Lisa Ben Clara Max Emma Paul Ida Leo Mia Noah Ella Jack Lucy Peter Rosa Karl Eva Adam Nina Oscar Ruth Hans "
    "Marie Anton Julia Felix Sarah David Laura Simon Alice Mark Helen George Jane Luke Kate Martin Amy Victor Dora "
    "Robert Grace Henry Sophie Daniel Maria James Charlotte William Sam Anna Maya Bob Alex Zoë René José André Chloé Noël"
).split()  # fmt: skip
SYLLABLES = "ba be bi bo da de di do fa fe ka ke ki ko la le li lo ma me mi mo na ne ni no ra re ri ro sa se ta te ti to va vi zu".split()
ONSETS = "b c d f g h j k l m n p r s t v w z br ch cl dr fr gr kr ph pr sh st th tr".split()
CODAS = ["", "", "", *"l m n r s t d th nd rt ck ss ra".split()]
SIGNS = "日本語中文字花蜂蜜早上好你吗漢愛山水éüñçßøåαβγδλπσжбдиня→★♥∑∞"


def invented_word(rng: Random) -> str:
    """A word that nobody knows."""
    return "".join(rng.choices(SYLLABLES, k=rng.randint(2, 4))) + rng.choice(["", "", "n", "r", "st", "x"])


def person(rng: Random) -> str:
    """A user's first name: a common one or an invented one."""
    if rng.random() < 0.35:
        return rng.choice(NAMES)
    syllables = (rng.choice(ONSETS) + rng.choice("aeiouy") + rng.choice(CODAS) for _ in range(rng.choice([1, 2, 2, 3])))
    return "".join(syllables).capitalize()


def small_talk(rng: Random) -> Exchange:
    """Greetings, thanks, who the model is, feelings, jokes."""
    if rng.random() < 0.06:
        question = say(rng, "[Tell me a joke.|Do you know a joke?|Make me laugh.|Tell me something funny.]")
        return Exchange(question, rng.choice(JOKES), topic="friend", fixed=True)
    questions, answers, more = rng.choice(SMALL_TALK)
    return Exchange(rng.choice(questions), rng.choice(answers), list(more), "friend")


def far_away(rng: Random) -> Exchange:
    """A question about things outside the garden, and the polite refusal."""
    kind = rng.random()
    if kind < 0.45:
        question = rng.choice(FAR_QUESTIONS).format(x=rng.choice(FAR_THINGS))
    elif kind < 0.75:
        question = rng.choice(FAR_WHOLE).format(n=rng.randint(10, 99), m=rng.randint(2, 99))
    else:
        word = invented_word(rng)
        question = rng.choice(
            [
                "What is a {x}?",
                "Tell me about {x}.",
                "What does {x} mean?",
                "Do you know {x}?",
                "Who is {x}?",
                "Where is {x}?",
            ]
        )
        question = question.format(x=rng.choice([word, word.capitalize()]))
    return Exchange(question, rng.choice(FAR_ANSWERS), topic="friend")


def strange(rng: Random) -> Exchange:
    """A message that is no question at all: signs, letters, other scripts, nothing."""
    kind = rng.randrange(5)
    if kind == 0:
        question = "".join(rng.choices(SIGNS, k=rng.randint(1, 8)))
    elif kind == 1:
        question = rng.choice("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ?!.,;:-+*/#0123456789")
    elif kind == 2:
        question = " ".join(invented_word(rng) for _ in range(rng.randint(1, 6)))
    elif kind == 3:
        question = "".join(rng.choices("0123456789abcdefxyz?!#()[]{}<>=+-*/ \n", k=rng.randint(2, 24))).strip()
    else:
        question = rng.choice(["", "...", "???", "hmm", "Hm", "blah blah", "🐝", "🌸🌼", "é", "ok?", "!!"])
    return Exchange(question, STRANGE_ANSWER, topic="friend")


def name_given(rng: Random, name: str) -> Exchange:
    """The user says their name."""
    question = say(rng, "[My name is {n}.|I am called {n}.|Hello, my name is {n}.|Hi, I am {n}.|Call me {n}.]", n=name)
    if rng.random() < 0.1:
        return Exchange(f"{question} What is my name?", f"Your name is {name}.", topic="friend", fixed=True)
    return Exchange(
        question, say(rng, "[Nice to meet you, {n}!|Hello, {n}! Nice to meet you.]", n=name), topic="friend", fixed=True
    )


def name_asked(rng: Random, name: str | None) -> Exchange:
    """The user asks for their own name, given before or not."""
    question = say(rng, "[What is my name?|Do you know my name?|Who am I?|What am I called?|Do you remember my name?]")
    return Exchange(
        question, f"Your name is {name}." if name else "I do not know your name yet.", topic="friend", fixed=True
    )


def repeat(rng: Random) -> Exchange:
    """A request to say a word or a short sentence."""
    thing = rng.choice(
        [
            person(rng),
            person(rng),
            invented_word(rng),
            rng.choice(FLOWERS).name,
            rng.choice(ANIMALS).plural,
            join(rng.sample([f.plural for f in FLOWERS], 3)),
        ]
    )
    return Exchange(
        say(rng, "[Say|Say|Repeat|Please say] {t}.", t=thing),
        thing[0].upper() + thing[1:] + ".",
        topic="friend",
        fixed=True,
    )


def reading(rng: Random) -> Exchange:
    """A question about a sentence given in the message."""
    hero, flower = rng.choice(CHARACTERS[:12]), rng.choice(FLOWERS)
    name = hero.name if rng.random() < 0.5 else person(rng)
    text = f"{name} found {flower.any} {flower.place}."
    question, answer = rng.choice([
        ("Who found it?", f"{name} found it."), ("What did {n} find?", f"{name} found {flower.any}."),
        ("Where did {n} find it?", f"{name} found it {flower.place}."),
    ])  # fmt: skip
    return Exchange(f"{text} {question.format(n=name)}", answer, topic="flower")


def tell_story(rng: Random) -> Exchange:
    """A request for a story, of a length and about somebody or something."""
    length = rng.choice(["middling", "middling", "short", "long", "long"])
    word = {"middling": "", "short": "short ", "long": "long "}[length]
    subject = rng.choice(
        [
            *[c.name for c in CHARACTERS],
            *["bee"] * 6,
            *[f.name for f in FLOWERS],
            "butterfly",
            "snail",
            "hedgehog",
            "owl",
            "frog",
        ]
    )
    if rng.random() < 0.35:
        subject, about = "bee", ""
    elif subject[0].isupper():
        about = f" about {subject}"
    else:
        about = rng.choice([f" about a {subject}", f" about the {subject}"]) if subject != "owl" else " about an owl"
    ask = rng.choice(
        [
            "Tell me a {w}story{s}.",
            "Tell me a {w}story{s}.",
            "Can you tell me a {w}story{s}?",
            "Write a {w}story{s}.",
            "I would like a {w}story{s}.",
            "Tell a {w}story{s}.",
        ]
    )
    lead = "" if length == "middling" else f"Here is a {word}story.\n\n"
    return Exchange(ask.format(w=word, s=about), lead + story(rng, subject, length), topic="animal", fixed=True)


def tell_poem(rng: Random) -> Exchange:
    """A request for a poem or a song."""
    topic = rng.choice(list(COUPLETS))
    name = {"time": rng.choice(["the year", "the seasons"]), "weather": rng.choice(["the weather", "rain", "the sun"]),
            "animal": "the animals", "friend": "a friend", "bee": rng.choice(["a bee", "bees", "the bees"]),
            "flower": rng.choice(["a flower", "flowers"]), "honey": "honey"}.get(topic, f"the {topic}")  # fmt: skip
    ask = rng.choice(
        [
            "Write a poem about {t}.",
            "Tell me a poem about {t}.",
            "Can you write a poem about {t}?",
            "Sing a song about {t}.",
            "Make a rhyme about {t}.",
        ]
    )
    if rng.random() < 0.2:
        topic, ask = (
            "bee",
            rng.choice(["Write a poem.", "Tell me a poem.", "Sing a song.", "Sing me a song.", "Do you know a poem?"]),
        )
    return Exchange(ask.format(t=name), poem(rng, topic, rng.choice([2, 2, 3])), topic=topic, fixed=True)
