"""What the people of Lantern Bay wrote from 1999 to 2012. Town, people, events: all invented."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Story:
    """One article of the Gazette; `day` is YYYYMMDD, paragraphs are split by a blank line."""

    day: str
    slug: str
    title: str
    author: str
    text: str


@dataclass(frozen=True, slots=True)
class Edition:
    """How a page of the town's site read from `since` (YYYYMMDD) on."""

    since: str
    title: str
    text: str


STORIES: Final = (
    Story(
        "19990312",
        "lamp-relit",
        "The lamp is lit again",
        "Wenna Quillfeather",
        """
After eleven dark winters the lamp of Gull Rock lighthouse was lit again on Thursday evening. Some
four hundred people stood on the quay in the rain to see the first beam cross the bay, and for a
moment nobody said a word.

The great lens, a second-order Fresnel of 1871, had lain in forty crates in the cellar of the
customs house since the light was switched off. Retired keeper Osric Lanternwright cleaned each of
its prisms with vinegar and an old shirt. "You do not polish such a thing," he told the Gazette.
"You ask it politely to be clear."

The light shows two white flashes every fifteen seconds and can be seen for nineteen nautical
miles.
""",
    ),
    Story(
        "19990921",
        "herring-return",
        "Herring return to the outer banks",
        "Tobin Saltmarsh",
        """
The herring are back. Skippers coming in on Monday's tide reported shoals so thick on the outer
banks that the echo sounders drew one black line. The boat Patient Margaret landed six tonnes
before breakfast and ran out of boxes.

Nobody is quite sure why the fish stayed away for seven seasons. The harbour office blames warm
water, the older skippers blame the dredger, and the smokehouse on Cable Street blames no one and
has ordered oak shavings for three months.

The council reminds all boats that the quota is counted at the weighbridge and not at the bar.
""",
    ),
    Story(
        "20000104",
        "millennium-clock",
        "Town clock survives the millennium, stops on Tuesday",
        "Wenna Quillfeather",
        """
The clock on the town hall passed midnight on the thirty-first without any trouble, whatever the
newspapers of the capital had foretold. It stopped four days later, at ten past nine, because a
jackdaw had built a nest between the weights.

Clockmaker Bettany Coghill counted two hundred and eleven twigs, a teaspoon, and a ferry ticket of
1987. The bird has been offered a box on the library roof. Until it accepts, the noon gun of the
coastguard will keep the town's time.
""",
    ),
    Story(
        "20000718",
        "whale-in-harbour",
        "A whale spends three days in the inner harbour",
        "Tobin Saltmarsh",
        """
A young humpback whale followed the ferry through the breakwater on Saturday and stayed for three
days. The harbour master closed the inner basin to all traffic, silenced the fog signal, and asked
the brass band to rehearse elsewhere.

Schools were let out to watch. The whale breathed every nine minutes, rolled once to look at the
crowd on the fish steps, and on Monday night, with the spring tide, left the way it had come.

Nothing was damaged but a mooring buoy, which the town has decided to keep as it is, dent and all.
""",
    ),
    Story(
        "20010215",
        "bakery-oven",
        "The oven on Rope Walk has burned for a hundred years",
        "Idony Fennimore",
        """
The oven of the bakery on Rope Walk was lit on the fifteenth of February 1901 and has never gone
cold since, not during the great snow and not during the two strikes. On Thursday the bakery gave
away a loaf to everyone who could tell a story about it.

We heard of a christening gown dried on its door, of a cat called Ember who slept there for
nineteen years, and of a love letter baked by mistake into a seed cake. The recipe for ship's
biscuit, on the other hand, remains a secret: flour, water, salt, "and patience", says the baker.
""",
    ),
    Story(
        "20011005",
        "storm-october",
        "Storm of October: the breakwater holds",
        "Tobin Saltmarsh",
        """
The worst storm in forty years struck the bay in the night of Wednesday. The gauge at Gull Rock
showed gusts of sixty-three knots before it was carried away. Eleven boats broke their moorings,
the bandstand lies in the churchyard, and half of Cable Street has no slates.

But the breakwater held. The blocks laid in 1934, mocked at the time as the dearest rocks in the
county, did not move by an inch. The lifeboat Constance Bell was launched twice and brought in the
crew of the coaster Amber Star, all seven of them, cold and swearing and safe.
""",
    ),
    Story(
        "20020330",
        "ferry-vote",
        "Council votes to keep the night ferry",
        "Idony Fennimore",
        """
By nine votes to four the council decided on Tuesday to keep the night ferry to Heronsey Island.
The company had wanted to end it, since on a winter Tuesday it carries on average two passengers
and a bicycle.

"A bridge that is only there when it pays is not a bridge," said councillor Marrin Coldstaff, to
applause from the gallery. The fare goes up by twenty pence. In return the boat will wait for the
last train, as it did until 1996, and the saloon will have tea again.
""",
    ),
    Story(
        "20020811",
        "wreck-of-the-corvina",
        "Divers find the wreck of the Corvina",
        "Tobin Saltmarsh",
        """
Divers of the Heronsey club have found the brig Corvina, lost with a cargo of slate and one piano
in 1868. She lies in twenty-six metres of water on the lee side of the Sisters, upright, with her
anchor still catted.

The piano has not been seen, but a row of ivory keys was found in the sand, set out by the current
as neatly as on a table. The county museum asks that nothing be lifted. The site is now protected,
and boats must not anchor within two cables of the green buoy.
""",
    ),
    Story(
        "20030117",
        "library-boat",
        "The library goes to sea",
        "Wenna Quillfeather",
        """
Since January the old pilot cutter Marigold carries eight hundred books to the islands, every
second Friday, wind permitting. Librarian Perpetua Inkling has built shelves with leather straps
and a rule that novels are stowed low, for ballast.

The most wanted title on Heronsey is a manual of sheep diseases, followed by anything with a
murder in the first chapter. Overdue books are forgiven in gales above force eight. "The sea is a
good excuse," says the librarian, "but the lake is not."
""",
    ),
    Story(
        "20030622",
        "net-makers",
        "The last net-makers of Cable Street",
        "Idony Fennimore",
        """
Three women still make nets by hand in the loft on Cable Street: the sisters Averil and Sabra
Hookway and their cousin Lowdy. Between them they have tied, by their own reckoning, some ninety
million knots.

Nylon arrived in 1958 and was, says Averil, "a blessing for the fish, since it tore like
stocking". Their nets are used now by the herring boats only, and by a theatre in the capital
which wants to hang the moon in one. The county has asked to record their hands on film.
""",
    ),
    Story(
        "20040509",
        "fog-signal",
        "The fog signal falls silent, and the town cannot sleep",
        "Tobin Saltmarsh",
        """
The diaphone of Gull Rock, which has called through every fog since 1911, was switched off on
Sunday as the coastguard no longer thinks it necessary. On the first foggy night, the doctor
reports, half of Lantern Bay came to her with insomnia.

A committee has been formed. It has the support of the hotel, the choir, and a tuba player who has
offered himself as a substitute. The coastguard answers that ships have satellites now. The
committee answers that people do not.
""",
    ),
    Story(
        "20041228",
        "lifeboat-bell",
        "A new bell for the lifeboat house",
        "Wenna Quillfeather",
        """
The lifeboat house has a new bell, cast from the bronze of two propellers. Its note is an E flat,
or, according to the choirmaster, something that will be an E flat when it has been rung more
often.

It was struck for the first time on Boxing Day, eighty-one times: once for each person brought
home by the Constance Bell since she came on station. The eighty-first, a boy of nine who drifted
out on an airbed, pulled the rope himself.
""",
    ),
    Story(
        "20050614",
        "seaweed-bread",
        "Seaweed bread wins a medal",
        "Idony Fennimore",
        """
The dulse loaf of the Rope Walk bakery has won a silver medal at the county show, behind a cheese.
It is made with seaweed gathered at low water below the lighthouse and dried on the roof.

We give the recipe as we were told it: a pound of strong flour, a handful of dried dulse cut small
with scissors, yeast the size of a walnut, warm water, no salt, for the sea has seen to that. Let
it rise for as long as the tide does. Bake until it sounds like a drum.
""",
    ),
    Story(
        "20051103",
        "tide-mill",
        "The tide mill turns again",
        "Tobin Saltmarsh",
        """
For the first time since 1922 the wheel of the tide mill is turning. A group of volunteers spent
six years replacing its oak paddles, and on Thursday, at the top of a spring tide, the sluice was
opened and forty tonnes of elm and iron began to move with a sound like a slow applause.

The mill grinds for about two hours on each ebb. It will not feed the town, but it makes enough
electricity for its own lamps, and flour for the bakery on the first Saturday of each month.
""",
    ),
    Story(
        "20060402",
        "seal-census",
        "Seal census: three hundred and twelve, and one dog",
        "Perran Oakapple",
        """
The yearly census of the grey seals on the Sisters gave three hundred and twelve animals, twenty
more than last spring. Counting was done from the Marigold by the upper class of the school,
twice, by two groups who were not allowed to talk to each other.

The groups differed by one. The difference turned out to be the harbour master's dog, who had swum
out to the rock and lay among the seals, as the report says, "with every sign of belonging".
""",
    ),
    Story(
        "20070219",
        "harbour-crane",
        "Farewell to the steam crane",
        "Perran Oakapple",
        """
The steam crane on the coal quay, built in 1893 and called Old Goliath by five generations, lifted
its last load on Monday: the mayor, in a chair, by public demand. The crane will be kept where it
stands, painted in its first colours.

Its driver, Jory Ironmonger, began on the footplate at fourteen and is now seventy. Asked what he
would miss, he named the warmth. Asked what he would not, he named the mayor's speech, which was
being held above him at the time.
""",
    ),
    Story(
        "20070830",
        "blue-lights",
        "Blue light in the bay",
        "Wenna Quillfeather",
        """
For nine nights the bay has been glowing. Every oar and every swimming dog draws a line of blue
fire in the water, and the breakers on the north beach can be read by, if the print is large.

The marine station explains that tiny plankton, disturbed by waves, give off light. The station
also asks that people stop filling jam jars with it, as it goes out within the hour. The ferry has
switched off its deck lights after ten, and has never been so full.
""",
    ),
    Story(
        "20080511",
        "wind-vote",
        "Turbines beyond the Sisters: yes, by thirty-one votes",
        "Perran Oakapple",
        """
After the longest town meeting in living memory, Lantern Bay agreed on Sunday to five wind
turbines beyond the Sisters: 1,204 votes to 1,173. The counting was done three times, the last
time by the choir.

The income will pay for the school roof, the night ferry and a new slipway. Opponents obtained
that the blades stand still in the weeks when the geese come through. "I voted against them," said
the keeper of the lighthouse, "but I shall be glad of the company."
""",
    ),
    Story(
        "20090223",
        "great-freeze",
        "The bay freezes over",
        "Tobin Saltmarsh",
        """
On Monday morning the inner harbour was white from quay to quay. The harbour has not frozen since
1963, and nobody under fifty knew what the sound was: a low groaning, as of furniture being moved
in another house, when the tide lifts the ice.

The post was taken to Heronsey by sledge as far as the breakwater and by rowing boat from there.
The children skated by the light of the lamp at Gull Rock, two flashes every fifteen seconds,
falling over mostly in the dark between.
""",
    ),
    Story(
        "20091016",
        "radio-station",
        "Radio Lantern Bay goes on the air",
        "Perran Oakapple",
        """
At six on Friday evening, from a cupboard above the fish market, Radio Lantern Bay broadcast its
first hour: the tides, the shipping forecast, a quarrel about hedges, and eleven minutes of rain
recorded on the roof of the tide mill.

The transmitter has the power of a light bulb and is heard as far as Heronsey, or, when the
herring boats lend their masts, beyond it. The station is looking for old gramophone records, and
for somebody who can read the weather without sounding pleased.
""",
    ),
    Story(
        "20100701",
        "museum-opens",
        "A museum of small lights",
        "Wenna Quillfeather",
        """
The customs house has become a museum. It shows no crowns and no cannon, but two thousand small
lights: lanterns of fishermen, signal lamps, bicycle lamps, a night-light in the shape of a hare,
and the candle by which the town charter is said to have been signed.

All of them work, and once a year, on the longest night, all of them will be lit. The insurance
company has sent a man. He went round twice, the director says, and then asked whether he could
bring his mother's lamp.
""",
    ),
    Story(
        "20110308",
        "ferry-hundred",
        "The night ferry is a hundred years old",
        "Idony Fennimore",
        """
The night ferry to Heronsey celebrated its hundredth year with a crossing at the fares of 1911:
three pence, children and sheep half. Nine hundred people wanted to come and the boat sailed four
times.

In the saloon hung the log of the first night: "Wind south-west, sea smooth, passengers two, one
of them asleep." The captain of today read it aloud, looked at the crowd, and added that the tea
had not changed.
""",
    ),
    Story(
        "20111119",
        "aurora",
        "Northern lights above the harbour",
        "Perran Oakapple",
        """
In the night of Saturday a green curtain stood over the bay for almost two hours, with a hem of
red. People came out in coats over nightclothes. The keeper covered the landward panes of the
lighthouse so that the town could see, which is allowed by an order of 1902 "for comets and the
like".

The marine station counted four peaks, the last shortly before two. The radio, having nothing to
say, left the microphone on the roof.
""",
    ),
    Story(
        "20120420",
        "archive-in-the-attic",
        "Ninety years of the Gazette found in the attic",
        "Wenna Quillfeather",
        """
When the roof of this newspaper was mended, the carpenters found every issue since 1921, tied in
bundles with herring twine. Mice have eaten the advertisements and, with one exception, left the
news.

The library will photograph all of it, page after page, so that anyone may search for their
grandmother, their boat, or the winter of 1963. "A town is what it remembers," says librarian
Perpetua Inkling, "and what it can find again on a Tuesday afternoon."
""",
    ),
)

HOME: Final = (
    Edition(
        "19990101",
        "Lantern Bay: welcome to our home page",
        """
Welcome to the home page of the town of Lantern Bay! You will find here the tides, the ferry, the
opening hours of the library and, when the modem works, the news.

This site was made by the upper class of Lantern Bay school and is best viewed by daylight.
""",
    ),
    Edition(
        "20010601",
        "Lantern Bay, a harbour town",
        """
Lantern Bay lies at the western end of the county, where the road stops and the herring boats
begin. 3,412 people live here, and one lighthouse.

New on this site: the minutes of the council, the by-laws of the harbour, and a page for our
friends abroad.
""",
    ),
    Edition(
        "20040901",
        "Lantern Bay | Town and harbour",
        """
Lantern Bay is a working harbour with a lighthouse, a tide mill under repair, and the only night
ferry on this coast. We have a new web site: the old addresses will bring you to the new ones.

Today: high water, band practice, and mackerel.
""",
    ),
    Edition(
        "20090110",
        "Lantern Bay: town, harbour, islands",
        """
Lantern Bay and Heronsey Island: town, harbour, tide mill, five turbines and 3,388 people. Plan a
visit, read the minutes of the council, listen to Radio Lantern Bay, or look through the camera on
the breakwater.
""",
    ),
)

LIGHTHOUSE: Final = (
    Edition(
        "19990101",
        "Gull Rock lighthouse",
        """
Gull Rock lighthouse was built between 1868 and 1871 after the loss of the brig Corvina. The tower
is thirty-four metres high and painted white with one red band. Character: two white flashes every
fifteen seconds. Range: nineteen nautical miles.

The tower cannot be visited at present. Please do not ask the keeper, he always says yes.
""",
    ),
    Edition(
        "20020501",
        "Gull Rock lighthouse",
        """
Gull Rock lighthouse was built between 1868 and 1871 after the loss of the brig Corvina. The tower
is thirty-four metres high and painted white with one red band. Character: two white flashes every
fifteen seconds. Range: nineteen nautical miles.

From May to September the tower is open on Sundays at low water. There are one hundred and eighty-
eight steps and, at the top, tea.
""",
    ),
    Edition(
        "20080601",
        "Gull Rock lighthouse",
        """
Gull Rock lighthouse, thirty-four metres high, has shown two white flashes every fifteen seconds
since 1871, apart from eleven dark winters between 1988 and 1999. The Fresnel lens is the largest
still turning on this coast.

Open daily except in gales. One hundred and eighty-eight steps. The fog signal may be heard on
request, after a vote.
""",
    ),
)

LIBRARY: Final = (
    Edition(
        "19990101",
        "The library",
        """
The library is open on Mondays, Wednesdays and Saturday mornings. It holds eleven thousand books,
the charts of the coast from 1790, and a stuffed puffin. Borrowing is free for residents, sailors
and anyone who is waiting for the ferry.
""",
    ),
    Edition(
        "20030201",
        "The library, ashore and afloat",
        """
The library is open on Mondays, Wednesdays and Saturday mornings. Every second Friday the Marigold
takes eight hundred books to Heronsey and the Sisters. It holds twelve thousand books, the charts
of the coast from 1790, and a stuffed puffin, which does not travel.
""",
    ),
    Edition(
        "20100901",
        "The library, ashore, afloat and on line",
        """
The catalogue of the library can now be searched from home. Fourteen thousand books, the charts of
the coast from 1790, the log books of the lifeboat, and the puffin, which has its own entry. The
Marigold sails every second Friday.
""",
    ),
)

FRENCH: Final = Edition(
    "20010601",
    "Lantern Bay : bienvenue aux visiteurs",
    """
Bienvenue à Lantern Bay ! Notre petite ville est située à l'extrémité ouest du comté, là où la
route s'arrête et où commencent les bateaux de pêche. Le phare de Gull Rock, bâti après le
naufrage de la Corvina, éclaire la baie depuis 1871 : deux éclats blancs toutes les quinze
secondes.

Le bac de nuit vers l'île de Heronsey part après le dernier train. À l'aube, goûtez le pain aux
algues de la boulangerie, dont le four brûle sans interruption depuis cent ans, et demandez à voir
la bibliothèque flottante. Les élèves du collège seront heureux de vous guider, même s'il pleut,
ce qui, nous l'avouons, arrive quelquefois.
""",
)

GERMAN: Final = Edition(
    "20010601",
    "Lantern Bay: Willkommen an der Küste",
    """
Willkommen in Lantern Bay! Unser Städtchen liegt am westlichen Ende der Grafschaft, dort, wo die
Straße aufhört und die Heringsboote anfangen. Der Leuchtturm auf Gull Rock wurde nach dem
Untergang der Brigg Corvina gebaut und zeigt alle fünfzehn Sekunden zwei weiße Blitze.

Die Nachtfähre zur Insel Heronsey wartet auf den letzten Zug. Wer früh aufsteht, bekommt in der
Bäckerei noch warmes Algenbrot; wer spät aufsteht, bekommt wenigstens die Geschichte dazu. Bei
Nebel hören Sie vielleicht das alte Nebelhorn: Die Bürger haben lange darüber gestritten, und nun
darf es auf Wunsch wieder tönen.
""",
)

SPANISH: Final = Edition(
    "20040901",
    "Lantern Bay: guía para el viajero",
    """
Bienvenidos a Lantern Bay, un puerto pequeño al final de la carretera. El faro de Gull Rock
ilumina la bahía desde 1871 con dos destellos blancos cada quince segundos, y desde lo alto se ven
las islas, los molinos de viento y, con suerte, alguna ballena.

El transbordador nocturno a la isla de Heronsey espera siempre al último tren. Pregunten en la
panadería por el pan de algas y en el museo por las dos mil lámparas pequeñas, que se encienden
todas juntas en la noche más larga del año.
""",
)

JAPANESE: Final = Edition(
    "20010601",
    "姉妹港 灯浜町からのごあいさつ",
    """
ランタンベイの皆さん、こんにちは。灯浜町は小さな漁港の町です。春には鰊、秋には鮭が港に揚がります。
私たちの灯台は明治時代に建てられ、今でも毎晩、十五秒ごとに光を送っています。

昨年の夏、ランタンベイの中学生が十二人、船で灯浜町を訪れました。一緒に網を編み、海藻のパンを焼き、
夜は港で歌を歌いました。霧の深い晩には、二つの町の霧笛が海の上で出会うと、年寄りたちは言います。
来年はどうぞ皆さんで遊びに来てください。お茶を用意して待っています。
""",
)

BYLAWS: Final = (
    "By-laws of the harbour of Lantern Bay",
    "1. No vessel shall enter the inner basin faster than a person can walk.",
    "2. Nets are dried on the rails of Cable Street and nowhere else.",
    "3. The noon gun is fired at noon, whatever the town clock may say.",
    "4. A whale in the harbour has the right of way.",
    "5. Fish is weighed at the weighbridge and not at the bar.",
    "6. In fog the bell of the lifeboat house is rung every five minutes.",
)

BYLAW_OF_2008: Final = "7. Between the Sisters and the turbines no anchor is dropped."

COUNCIL_ITEMS: Final = (
    "The slipway is to be widened by two metres. Councillor Coldstaff asked in which direction.",
    "The bench on the north beach is replaced. The old bench goes to whoever carved it.",
    "A letter from Heronsey about the price of hay was read and will be answered in kind.",
    "The street lamps of Cable Street burn until midnight, on band nights until the band is done.",
    "The petition to move the market to Fridays was declined, as fish do not know the day.",
    "Ten pounds were granted to the school for the repair of the tuba.",
    "The jackdaw on the town hall is declared a resident without voting rights.",
    "The gauge at Gull Rock is replaced by one rated for ninety knots.",
    "The ferry company reports 41,300 passengers, 212 sheep and one upright piano.",
    "The council thanks the volunteers of the tide mill and wishes them more oak.",
    "The speed limit on Rope Walk is set at that of the baker's van.",
    "It was resolved that the geese may not be counted twice.",
    "The roof of the library leaks above Poetry. Buckets have been catalogued.",
    "The treasurer showed a surplus of eighty pence and was applauded.",
)

FESTIVAL_THEMES: Final = (
    "herring",
    "fog",
    "whales",
    "knots",
    "the moon",
    "slate",
    "bells",
    "seaweed",
    "mills",
    "seals",
    "wind",
    "ice",
    "small lights",
    "memory",
)

LOG_WIND: Final = (
    "Wind south-west, light.",
    "Wind north-west, fresh, with squalls.",
    "Calm, the bay like a plate.",
    "Wind easterly and cold.",
    "Gale from the west, easing towards night.",
    "Wind southerly, smelling of hay.",
    "Fog until noon, then a thin sun.",
    "Steady rain, wind in every corner.",
)
LOG_SHIPS: Final = (
    "Came in: Patient Margaret with herring, {n} boxes.",
    "Came in: coaster Amber Star with {n} tonnes of coal for the gasworks.",
    "Left: Marigold with {n} books for the islands.",
    "Came in: ferry from Heronsey, {n} passengers and a goat.",
    "Left: dredger Humble, after {n} hours of argument about the buoy.",
    "Came in: yacht Second Thought, skipper asking for {n} litres of water and the way.",
    "Left: Constance Bell on exercise, back after {n} minutes.",
    "Came in: Three Cousins with mackerel, {n} baskets, and a torn net.",
)
LOG_NOTES: Final = (
    "Seen: {n} seals on the slipway, all asleep.",
    "The green buoy at the Sisters shows {n} flashes instead of four; reported.",
    "Found on the fish steps: one glove, left, size {n}.",
    "The gauge read {n} centimetres over the table.",
    "The harbour dog refused to come in until {n} o'clock.",
    "Painted {n} metres of rail. Rain followed.",
    "The noon gun was late by {n} seconds, the gunner blames the jackdaw.",
    "A school class of {n} children was shown the crane.",
)
