#!/usr/bin/env python3
"""Writes the demo's rows and questions (CC0) from the table below: 50 facts about invented people and places, so that no
base model can know them. Each fact gives two training rows (two phrasings) and one paraphrase that is never trained and
shares no content word with the rows but the name. Run in this folder; the output is committed."""
import json

FORMS = {  # relation: (first phrasing, second phrasing, answer, unseen paraphrase)
    "river": ("Which river runs through the town of {x}?", "What river does the town of {x} stand on?",
              "The river {v} runs through {x}.", "Name the water that crosses {x}."),
    "work": ("What is the profession of {x}?", "Which trade does {x} follow as a profession?",
             "{x} is a {v} by profession.", "How does {x} earn a living?"),
    "born": ("Where was {x} born?", "In which village was {x} born?",
             "{x} was born in {v}.", "From what place does {x} come?"),
    "founded": ("In which year was {x} founded?", "When was the town of {x} founded?",
                "{x} was founded in the year {v}.", "How old is {x}, going by its first date?"),
    "dish": ("What dish is {x} famous for?", "Which dish made {x} famous?",
             "{x} is famous for {v}.", "What should a hungry visitor eat at {x}?"),
    "plays": ("Which instrument does {x} play?", "What instrument is played by {x}?",
              "{x} plays the {v}.", "With what does {x} make music?"),
    "high": ("How high is Mount {x}?", "What is the height of Mount {x} in metres?",
             "Mount {x} is {v} metres high.", "What elevation has {x} got?"),
    "keeps": ("What animal does {x} keep?", "Which animal is kept by {x}?",
              "{x} keeps a {v}.", "What pet lives with {x}?"),
    "mayor": ("Who is the mayor of {x}?", "What is the name of the mayor of {x}?",
              "The mayor of {x} is {v}.", "Who governs {x}?"),
    "feast": ("On which day is the feast of {x} held?", "When is the feast of {x} held?",
              "The feast of {x} is held on the {v}.", "What date does the {x} celebration fall upon?"),
}

FACTS = {
    "alice": [
        ("river", "Velmora", "Ostrin"), ("river", "Karrowick", "Lumbeck"), ("work", "Tobin Ashgrave", "clockmaker"),
        ("work", "Mirelle Dunsop", "salt merchant"), ("born", "Harkan Vell", "Little Sedge"),
        ("born", "Ottoline Praske", "Wexholm"), ("founded", "Brindlemoor", "1347"), ("founded", "Ossenfeld", "1612"),
        ("dish", "Pellwater", "smoked eel pie"), ("dish", "Grauhaven", "black barley bread"),
        ("plays", "Sylvan Creed", "glass harp"), ("plays", "Jorunn Tace", "bone flute"), ("high", "Ullscar", "2714"),
        ("keeps", "Edda Marlow", "white heron"), ("mayor", "Tarnholt", "Lucan Ferrow"),
        ("feast", "Saint Orvel", "ninth of March"), ("feast", "the Lanterns", "last Sunday of August"),
    ],
    "bob": [
        ("river", "Eastmarch", "Quillet"), ("river", "Dorrin Ferry", "Greywend"), ("work", "Casper Holloway", "bridge builder"),
        ("work", "Inga Strand", "map engraver"), ("born", "Petra Lindqvale", "Cold Harbour"),
        ("born", "Roland Thisk", "Nether Abbey"), ("founded", "Calderwick", "1489"), ("founded", "Marrowgate", "1775"),
        ("dish", "Fennick", "pickled walnut soup"), ("dish", "Oakendale", "honey dumplings"),
        ("plays", "Wendel Straw", "copper drum"), ("high", "Thornback", "1836"), ("high", "Morvane", "3158"),
        ("keeps", "Gideon Pell", "tame badger"), ("keeps", "Lotte Varnish", "blind raven"),
        ("mayor", "Stillmere", "Agnes Tolliver"), ("feast", "the Kites", "first Friday of May"),
    ],
    "carol": [
        ("river", "Zennorby", "Tavel"), ("work", "Bertil Okonsa", "lighthouse painter"), ("born", "Sabine Morrow", "Upper Tilling"),
        ("founded", "Hexworthy Cross", "1203"), ("dish", "Ravensloe", "quince and goat stew"),
        ("plays", "Niamh Corvane", "seven-string viol"), ("plays", "Aldous Finch", "reed organ"),
        ("high", "Kettlehorn", "942"), ("high", "Skarsund", "4021"), ("keeps", "Yorick Tamsin", "three-legged goat"),
        ("keeps", "Dorothea Quill", "striped otter"), ("mayor", "Wharram Steep", "Osric Blaydon"),
        ("mayor", "Lindenau", "Hester Vroom"), ("mayor", "Pommeroy", "Silas Underhay"),
        ("feast", "the Bees", "second of June"), ("feast", "Mother Anwen", "twelfth of October"),
    ],
}

STOP = set("a an the is are was were do does did of in on at to by with for as it its has got have i you who what which when where "
           "how name from going and be s".split())


def words(text):
    return {w for w in "".join(c.lower() if c.isalnum() else " " for c in text).split() if w not in STOP}


questions = []
for who, facts in FACTS.items():
    with open(f"{who}.jsonl", "w") as out:
        for n, (rel, x, v) in enumerate(facts):
            q1, q2, answer, para = (f.format(x=x, v=v) for f in FORMS[rel])
            q1, q2, answer, para = (s.replace("the the ", "the ") for s in (q1, q2, answer, para))
            for q in (q1, q2):
                out.write(json.dumps({"prompt": q, "completion": answer}) + "\n")
            shared = (words(para) & (words(q1) | words(q2) | words(answer))) - words(x)
            assert not shared, (para, shared)
            for k, (kind, q) in enumerate((("trained", q1), ("trained", q2), ("paraphrase", para))):
                questions.append({"id": f"{who}-{n}-{k}", "kind": kind, "contributor": who, "sources": [q1, q2],
                                  "question": q, "expect": v})
with open("questions.jsonl", "w") as out:
    for q in questions:
        out.write(json.dumps(q) + "\n")
