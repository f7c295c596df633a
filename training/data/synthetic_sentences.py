"""What the synthetic corpus says. All of it is written for this project; nothing is taken from TIMIT."""

from training.data.draws import Draws

# Read by every speaker, as TIMIT's two "dialect" sentences are.
SHARED = (
    "Both of the young cooks would rather measure the juice than ask their father for water.",
    "Please park your car beside the old yard and bring that greasy towel.",
)

# Read by the training speakers.
TRAINING = (
    "A thin layer of ice covered the pond this morning.",
    "Joyce enjoys the noise of boys at play.",
    "We usually measure our pleasure in hours outside.",
    "The judge changed his mind about the orange bridge.",
    "Which witch watched the children catch a chicken?",
    "Six thick thistles stick to the cloth.",
    "My mother bought a bag of beans and a pound of butter.",
    "Her brother gave the dog a good bath in the garden.",
    "Do you know how to tune a guitar?",
    "The vision of a treasure led them further north.",
    "Nothing grows under the shadow of that huge oak.",
    "Zebras graze in dusty zones near the zoo.",
    "The singer is bringing along a long string of songs.",
    "Pull the wooden hook and push the book through.",
    "Yesterday the yellow yacht sailed beyond the yard.",
    "Five valves move over the heavy oven.",
    "She should wash those dishes before the show.",
    "The bottle of milk fell from the middle of the table.",
    "A kitten sat upon a cotton button.",
    "Our towel was found somewhere south of town.",
    "Peter, put the paper plates back into the box.",
    "Could a bigger digger dig the garden today?",
    "The weather was better later in the week.",
    "He hardly heard her humming behind the house.",
    "Three brothers gathered feathers, feathers of every color.",
    "An early bird heard the first words of the nurse.",
    "Few pupils refused the music of the huge tuba.",
    "Choose a cheap chair, or teach the teacher to stand.",
    "The soil was spoiled by boiling oil.",
    "How loud was the crowd around the fountain?",
    "Bright lights might guide the pilot at night.",
    "No one told Joe about the open road.",
    "Take eight cakes away from the lake.",
    "The lazy cat sat on the mat, and that was that.",
    "Calm palms lined the father's farm.",
    "All autumn the author walked along the wall.",
    "The fool moved the blue spoon to the cool room.",
    "Seven eggs were left, yet ten men were ready.",
    "Big ships bring fish and figs to this city.",
    "Each evening we meet three people in the street.",
    "Young uncles run much for nothing but fun.",
    "Thank the author for the thin path to the north.",
    "This other leather is smoother than those.",
    "The garage was closed, so the usual decision was delayed.",
    "Jack and Jill jogged gently around the large village.",
    "Quick foxes expect quiet, and quite often they get it.",
    "A dozen lazy bees buzzed as the daisies rose.",
    "What a wonderful, wonderful way to win!",
    "Ring the bell, king, and sing along.",
    "The little metal kettle rattled on the pedal.",
    "Is it a rhythm, a prism, or a chasm?",
    "Sudden rain dampened the garden and the wagon.",
    "Do not forget the ticket in your left pocket.",
    "The camera, the banana, and the sofa were sold.",
    "Clean clothes make clever clowns proud.",
    "Grab the green grapes and the brown bread.",
    "Twelve twins twisted twenty twigs.",
    "Split the spring onions and spread the scraps.",
    "Strong streams stretched across the stone street.",
    "Square screws are quite scarce.",
)

# Read by the speakers of the development and core test sets: no text is in two splits' training and test.
HELD_OUT = (
    "The visitors watched a measure of pure joy.",
    "George forged a strange badge for the soldier.",
    "Their mother would rather bathe than breathe that smoke.",
    "Such rich cheese matches the Dutch peach.",
    "We long for a young spring evening.",
    "Put your foot on the cushion and look.",
    "He hid behind the high hedge until we hurried home.",
    "The yellow onion and the union of young yaks were unusual.",
    "Give every diver a clever glove of velvet.",
    "Shiny shells wash ashore in fresh ocean foam.",
    "Doctor Moore ordered four more doors for the store.",
    "The girl heard a purple bird murmur.",
    "Wait, the train may be late again today.",
    "My wife tried to climb the ice five times.",
    "A coin was tossed and the toy was destroyed.",
    "Loud owls howled about the brown mountain.",
    "Only the slow boat floats home in October.",
    "A funny monkey jumped up and hugged the duck.",
    "Sam ran back and handed the man a black hat.",
    "Many wet hens rested next to the fence.",
    "The king's minister is interested in biscuits.",
    "These green leaves seem clean and neat.",
    "Who knew the food was due at noon?",
    "The tall daughter saw a small hawk.",
    "A bottle, a saddle, and a candle were in the middle of the puddle.",
    "Take the garden wagon to a certain mountain.",
    "Better butter makes a bitter batter, said Betty.",
    "Thick cloth and thin thread went through the teeth of the machine.",
    "Zero zones of this cozy museum were busy.",
    "Black clouds passed, and the brave pilot turned back.",
)

_SUBJECTS = (
    "The careful driver", "A tired nurse", "My youngest cousin", "The village baker", "Some noisy children",
    "Our new neighbor", "The famous painter", "A clever student", "Their old captain", "The hungry fox",
    "An honest lawyer", "The other team", "His quiet sister", "The whole family", "A group of farmers",
    "Every good sailor",
)  # fmt: skip
_VERBS = (
    "quickly found", "has forgotten", "would not sell", "could hardly reach", "painted", "carried away",
    "often mentions", "will never share", "was watching", "began to polish", "chose", "threw out",
    "should repair", "had borrowed", "pushed aside", "may have hidden",
)  # fmt: skip
_OBJECTS = (
    "the broken ladder", "a jar of honey", "seven wooden spoons", "the heavy leather bag",
    "an orange umbrella", "that thick volume", "the rusty garden gate", "a basket of cherries",
    "her favorite jacket", "the yellow boat", "a very long letter", "the kitchen table",
    "two bags of flour", "the church bell", "a pair of gloves", "the engine",
)  # fmt: skip
_PLACES = (
    "near the station", "in the shadow of the bridge", "during the winter", "after the show",
    "under the shelf", "on a Thursday afternoon", "without any pleasure", "beyond the river",
    "at the edge of town", "behind the garage", "before anyone noticed", "with great joy",
    "in the usual way", "at half past five", "while it was raining", "through an open window",
)  # fmt: skip


def compose(draws: Draws) -> str:
    """A sentence put together at random, one of 65,536: the counterpart of TIMIT's SI sentences."""
    parts = (draws.choose(words) for words in (_SUBJECTS, _VERBS, _OBJECTS, _PLACES))
    return f"{' '.join(parts)}."
