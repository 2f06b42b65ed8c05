"""The words of the world: colours, shapes, sizes, textures, printed words, and the held-out combinations.

Only names and constants live here; geometry is in `scene`, drawing in `render`.
"""

from __future__ import annotations

import math
import zlib

RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "red": (214, 40, 40),
    "orange": (245, 140, 20),
    "yellow": (245, 218, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 210),
    "purple": (140, 50, 170),
    "white": (246, 246, 246),
    "black": (24, 24, 24),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "crescent")
SIZES = ("small", "large")
TEXTURES = ("plain", "striped", "dotted")
# Radii in units of the image height. The gap between the two ranges keeps "small" and "large" exact.
SIZE_RADII: dict[str, tuple[float, float]] = {"small": (0.068, 0.085), "large": (0.12, 0.145)}
# A square turned by 45 degrees would be called a diamond, so rotations stay below the point of doubt.
MAX_ROTATION: dict[str, float] = {
    "circle": 0,
    "square": 15,
    "triangle": 20,
    "star": 30,
    "cross": 15,
    "ring": 0,
    "heart": 20,
    "crescent": 30,
}
# Never drawn in training or validation scenes; test questions about them carry the tag "held-out".
HELD_OUT: frozenset[tuple[str, str]] = frozenset(
    {("purple", "heart"), ("yellow", "cross"), ("green", "ring")}
)

_WORDS = """
ACE ACT ADD AGE AID AIM AIR ALE ANT APE ARC ARM ART ASH ASK BAD BAG BAR BAT BAY BED BEE BET BIG BIT BOX BOY BUD
BUG BUS BUY CAB CAN CAP CAR CAT COB COD COW CRY CUB CUP CUT DAY DEN DEW DIG DIM DOG DOT DRY DUE EAR EAT EEL EGG
ELF ELK END EYE FAN FAR FAT FED FEW FIG FIN FIR FIT FIX FLY FOG FOX FUN FUR GAP GAS GEM GET GIG GUM GUT HAM HAT
HEN HID HIP HIT HOP HOT HUB HUG ICE ICY INK INN ION IRE IVY JAM JAR JAW JET JOB JOG JOY KEY KID KIT LAB LAP LAW
LEG LID LIP LOG LOW MAD MAN MAP MIX MOB MUD MUG NAP NET NEW NOD NUT OAK OAT ODD OIL OLD OWL OWN PAD PAN PAW PEA
PEN PIG PIN POD POT RAG RAM RAT RAY RED RIB RIM ROB ROD ROW RUG SAD SAW SEA SET SIX SKI SKY SLY SON SUM SUN TAB
TAG TAN TAP TAX TEA TEN TIE TIN TIP TOE TOP TOY TUB TUG URN USE VAN VAT VET VOW WAX WEB WET WIG WIN YAK YAM ZIP
ZOO ABLE ACID ATOM AUNT BAKE BALL BAND BANK BARN BEAN BEAR BELL BELT BIRD BLUE BOAT BONE BOOK BOOT BOWL BULB
CAGE CAKE CALM CAMP CARD CART CAVE CITY CLAY CLUB COAL COAT COIN CORN CRAB CROW CUBE DARK DATE DAWN DEER DESK
DICE DIRT DISH DOCK DOOR DOVE DRUM DUCK DUST EAST ECHO EDGE FACE FARM FERN FILM FIRE FISH FLAG FOLK FOOT FORK
FROG FUEL GAME GATE GIFT GLUE GOAT GOLD GOLF GRID HAND HARP HAWK HERO HILL HOME HOOK HORN IDEA IRON ITEM JAZZ
JUMP KITE KNEE KNOT LACE LAKE LAMB LAMP LEAF LIME LION LOCK LUCK MAIL MASK MAZE MENU MILK MINT MOON MOSS NAIL
NECK NEST NOON NOSE OVEN PALM PARK PATH PEAR PIPE POEM POND PORT QUIZ RAFT RAIN RICE RING ROAD ROCK ROOF ROOT
ROPE ROSE RULE SAIL SALT SAND SEED SHIP SHOE SILK SNOW SOAP SOFA SONG SOUP STAR SWAN TAIL TENT TIDE TREE TUBE
TUNA UNIT VASE VERB VIEW VINE WALL WAVE WEST WHEY WIND WING WOLF WOOD WOOL YARD YARN ZERO ZONE ABOVE ALARM APPLE
APRIL BEACH BERRY BLOOM BRAIN BREAD BRICK BRUSH CABIN CAMEL CANDY CHAIR CHALK CHESS CLOCK CLOUD CORAL CROWN
DAISY DANCE DREAM EAGLE EARTH FAIRY FEAST FENCE FIELD FLAME FLOUR FRUIT GHOST GIANT GLASS GRAPE GRASS HONEY
HORSE HOTEL HOUSE IVORY JEWEL JUICE KNIFE LEMON LIGHT MAGIC MANGO MAPLE MARCH MEDAL MONEY MOUSE MUSIC NIGHT
NORTH OCEAN OLIVE ONION OPERA ORBIT PAINT PANDA PAPER PEACH PEARL PHONE PIANO PILOT PLANE PLANT QUEEN RADIO
RIVER ROBOT SALAD SCALE SHARK SHEEP SHELL SKIRT SMILE SNAIL SPICE SPOON STONE STORM SUGAR SWORD TABLE TIGER
TOAST TORCH TOWER TRAIN TRUCK TULIP UNCLE VIOLA VOICE WAGON WATCH WATER WHALE WHEAT WHEEL WORLD YACHT ZEBRA
"""
WORDS: tuple[str, ...] = tuple(dict.fromkeys(_WORDS.split()))
# One word in five is never printed in training, so that reading can be told from remembering.
TEST_ONLY_WORDS: frozenset[str] = frozenset(w for w in WORDS if zlib.crc32(w.encode()) % 5 == 0)
TRAIN_WORDS: tuple[str, ...] = tuple(w for w in WORDS if w not in TEST_ONLY_WORDS)

Point = tuple[float, float]


def _regular(count: int, *, radius: float = 1.0, start: float = -90.0) -> list[Point]:
    angles = (math.radians(start + 360.0 * i / count) for i in range(count))
    return [(radius * math.cos(a), radius * math.sin(a)) for a in angles]


def _star() -> list[Point]:
    outer, inner = _regular(5), _regular(5, radius=0.45, start=-54.0)
    return [point for pair in zip(outer, inner, strict=True) for point in pair]


def _cross(arm: float = 0.34) -> list[Point]:
    a = arm
    corners = [(-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a), (a, 1), (-a, 1), (-a, a), (-1, a)]
    return [(float(x), float(y)) for x, y in [*corners, (-1, -a), (-a, -a)]]


def _heart() -> list[Point]:
    points = []
    for i in range(40):
        t = 2 * math.pi * i / 40
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((x / 16.5, -(y + 2.5) / 15.5))
    return points


def _ring() -> list[Point]:
    # One outline with a zero-width bridge: even-odd filling in Pillow and in SVG leaves the hole open.
    outer, inner = _regular(40), _regular(40, radius=0.55)
    return [*outer, outer[0], inner[0], *reversed(inner)]


def _crescent() -> list[Point]:
    outer = [(math.cos(a), math.sin(a)) for a in (math.radians(50 + 260 * i / 30) for i in range(31))]
    tip = outer[0]
    centre, radius = 0.45, math.hypot(tip[0] - 0.45, tip[1])
    start = math.degrees(math.atan2(-tip[1], tip[0] - centre))
    sweep = 360 - 2 * abs(start)
    inner = []
    for i in range(1, 25):
        angle = math.radians(start - sweep * i / 25)
        inner.append((centre + radius * math.cos(angle), radius * math.sin(angle)))
    return [(x + 0.15, y) for x, y in outer + inner]


OUTLINES: dict[str, tuple[Point, ...]] = {
    "circle": tuple(_regular(40)),
    "square": tuple((0.84 * x, 0.84 * y) for x, y in [(-1, -1), (1, -1), (1, 1), (-1, 1)]),
    "triangle": tuple((x, y + 0.18) for x, y in _regular(3, radius=1.1)),
    "star": tuple(_star()),
    "cross": tuple(_cross(0.36)),
    "ring": tuple(_ring()),
    "heart": tuple(_heart()),
    "crescent": tuple(_crescent()),
}
