"""Write the PDFs and the Word file of the sample folder ``data/handbook``, whose other files are texts written by hand.

    python tests/make_handbook.py [FOLDER]

The rules are those of Penrow Scales, a company that does not exist. Needs fpdf2 (the extra ``test``).
"""

from __future__ import annotations

import re
import sys
import zipfile
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from fpdf import FPDF

MADE = datetime(2026, 1, 12, tzinfo=UTC)
HANDBOOK = Path(__file__).resolve().parent.parent / "data" / "handbook"

# A page each: "# " and "## " begin headings, "|" a row of a table, and a page of "" has a drawing in the place of text.
PAGES = [
    """# Welcome
Penrow Scales has built laboratory balances since 1987. We are 46 people: 19 in the workshop, 11 in development, the \
rest in sales, service and the office. This handbook holds for all of us. Where it differs from your contract, the \
contract counts.
The handbook is revised in January. Changes during the year are announced by e-mail and count from the day that the \
e-mail names.
## Whom to ask
Ingrid Vale in the office answers questions about contracts, pay and leave. Your team lead decides about working \
hours and about time off. Tomas Reed looks after computers and telephones, Priya Nair after safety in the workshop.
## Probation period
The probation period is the first six months of a contract. During this time either side can end the contract with \
two weeks' notice, without a reason. After three months your team lead talks with you about how it is going.
## Notice
After the probation period notice is four weeks to the end of a month. It grows to three months after five years with \
us. Notice must be given on paper and signed; an e-mail is not enough.
## Contracts for a limited time
A contract for a limited time ends by itself on the day that it names. We tell you three months before whether it \
will be prolonged. It can be prolonged twice, and for two years in all. Students who work with us for a term have \
contracts of this kind, with at most 20 hours a week while lectures last.
## A second job
You may work for somebody else as well if it is not a competitor and the hours of both jobs together stay below 48 a \
week. Tell the office before you begin. Writing, teaching and voluntary work need no consent at all.""",
    """# Working hours
## The week
A full week has 38 hours. The core time, when everybody can be reached, is from 10:00 to 15:00, Monday to Thursday, \
and from 10:00 to 12:00 on Friday. The other hours are yours to arrange between 6:30 and 20:00.
The time account records every hour above or below the week's 38. It may hold 40 hours at most. To take a whole day \
from the time account, ask your team lead a week before.
## Working from home
Development, sales and the office may work from home on two days a week, after the first three months. Agree on fixed \
days with your team. The workshop cannot work from home, and has a free Friday afternoon instead.
## Breaks
Half an hour is due after six hours of work, three quarters of an hour after nine. Breaks are not working time. The \
kitchen on the first floor has a cooker, and coffee and fruit are free.
## Night and weekend
Nobody has to work between 20:00 and 6:30. Service visits on a Saturday need the agreement of the person who travels \
and are counted one and a half times on the time account.
## Part time
Everybody can ask for fewer hours, for a limited time or for good. Ask three months before; we answer within four \
weeks, and if we refuse we give the reason in writing. To return to a full week later, tell us by the end of June for \
the following year.
## Overtime
Overtime is agreed on beforehand. It goes to the time account, or is paid if the account is full. Nobody has to work \
more than ten hours on a day. After a late evening eleven hours of rest come first, even if you miss the core \
time.""",
    """# Leave
## Annual leave
Every employee has 29 working days of paid leave a year. In the year in which you join, it is a twelfth of that for \
each full month. The two days of 24 and 31 December are free and are not counted.
To request leave, enter the days in the calendar and wait for the green mark of your team lead. For more than ten \
days in a row ask three months before.
Up to five days that are left in December may be carried over. They lapse on 31 March. Other days lapse at the end of \
the year, unless illness or the company prevented you from taking them.
## Special occasions
Two days are given for your own wedding, three for the birth of a child and for the death of a partner, parent or \
child, one for moving house, once in two years. They are paid and do not touch the annual leave.
## Unpaid leave
After two years everybody may take up to six months off without pay, once in four years. Insurance ends after the \
first month, so talk to Ingrid Vale before you decide.
## Parents
Before and after a birth the law protects mothers for fourteen weeks in all. Fathers and second parents have ten paid \
days within the first two months. Parental leave can be taken until the third birthday, in at most three parts; \
announce each part seven weeks before. Your place is kept, though not always the same desk.
## Care of relatives
If a close relative suddenly needs care you can stay away for ten days, and the insurance pays most of the loss. For \
a longer time you can reduce your hours to fifteen a week for up to two years.
## Public duties
Jury service, voting, the fire brigade and blood donations are paid time. Bring the summons or the certificate to the \
office. Volunteers of the lifeboats have five days a year for exercises.""",
    """# Illness
## Calling in sick
Tell your team lead before 9:00 on the first day, by telephone or by message. From the fourth day on we need a \
certificate from a doctor. Send a picture of it to the office; the paper stays with you.
Pay continues for six weeks. After that the health insurance pays, usually seventy per cent.
## Sick children
Each parent has twelve days a year for each child under twelve who is ill. We pay the first five in full.
## Returning after a long illness
Who was away for more than six weeks can come back in steps, for example with four hours a day. The doctor writes the \
plan, and Ingrid Vale arranges it with the insurance.
## Eyes and ears
Who works at a screen has an eye test every two years during working time. For screen glasses that the test \
recommends the company contributes up to 110 euros. Fitted hearing protection for the workshop is paid in full.
## Staying well
A vaccination against influenza is offered in October, in the meeting room. The company doctor comes on the first \
Monday of each quarter and talks about backs, sleep and stress as well; what you say stays with the doctor. Desks can \
be raised to stand at. Half of the fee of a sports club is paid, up to 20 euros a month.""",
    """# Money
## Pay day
Pay arrives on the last working day of the month. The slip is in your box at the payroll office's portal from the day \
before. A thirteenth salary is paid in November, in proportion to the months worked.
## Expenses
To claim expenses, photograph the receipt and enter it within 60 days. Amounts above 250 euros need the consent of \
your team lead before you buy. The table shows what is paid without a receipt.
| What | Amount | Condition |
| Meals, day trip | 14 euros | away for more than 8 hours |
| Meals, full day | 28 euros | with a night away |
| Own car | 0.30 euros a kilometre | shortest route |
| Own bicycle | 0.10 euros a kilometre | shortest route |
| Private night | 20 euros | with friends or family |
## Pension
The company adds 20 per cent to what you pay into the pension plan, up to 100 euros a month. You can join in any \
month after the probation period.
## Commuting
A monthly ticket for bus and train is paid by half. The parking places behind the hall are free, first come, first \
served.
## Loans and advances
In an emergency the office can pay a part of your next salary in advance, up to 800 euros. It is taken back in four \
parts. Loans for houses or cars are not given.
## Bonus
If the year's profit is above the plan, a tenth of the difference is shared out in April, by heads and not by salary. \
Whoever joined during the year has a share for the months worked. Sales has no commission of its own.
## Anniversaries
After ten years there are 500 euros and a day off, after twenty-five years 1,500 euros and a week.""",
    "",
    """# Learning
## Courses
Each of us has a budget of 900 euros and four days a year for courses, books and conferences. What is not used by \
December is lost. If a course costs more, your team lead can add the budgets of two years.
**Language courses** are paid by half when the language is spoken by customers, and the hours are your own time.
## Repaying
For courses above 2,500 euros we agree that you stay for two years. Who leaves earlier repays a part, one \
twenty-fourth for each month that is missing.
## Mentors
A mentor is a colleague from another team who has an hour a month for you in the first year. Ingrid Vale brings you \
together in the second week.
## Apprentices and students
We train precision mechanics and office clerks. Apprentices keep a journal, which the trainer signs each week, and \
have the day before an examination free. School books are paid. After a good final examination we offer a contract \
for at least a year.
## Talks and articles
Who gives a talk at a conference goes there at the company's expense, in addition to the budget for courses. Show \
slides and articles to development two weeks before, because of patents.
## Feedback
Once a year you and your team lead talk for an hour about the past year and the next. Both prepare a page. Nothing in \
it is used for pay, which is discussed in another meeting, in October.
## Inventions
Report an invention to development on the form in the intranet. We decide within three months whether to apply for a \
patent. The inventor has a share in what it earns; the law says how large.""",
    """# Living together
## Complaints
If something is wrong between you and a colleague, talk to your team lead or to the two people of trust, Amira Haddad \
and Jon Osei. They tell nobody without your consent. We look into each complaint within ten working days.
## Gifts
Presents from customers and suppliers are fine up to 35 euros. Tell the office about anything above, and do not \
accept money or vouchers at all.
## Dogs
Dogs are welcome in the office on Wednesday and Friday if all in the room agree. They are not allowed in the workshop \
or the clean room.
## Visitors
Visitors sign in at the front desk and are met there. In the workshop they wear shoe covers and glasses. Photographs \
need the consent of development.
## Leaving the company
On your last day hand in the key card, the laptop and the telephone. Private files are deleted after 30 days. You \
receive a reference within four weeks.
## Keys
The key card opens the front door from 6:00 to 21:00, and the rooms that your work needs. A lost card costs nothing \
the first time and 25 euros after that. Do not lend it. Outside these hours the alarm is on: call the guard before \
you enter, the number is beside the door.
## Kitchen and rooms
Who empties the coffee pot makes new coffee. The dishwasher is filled by everybody and emptied by the team whose week \
it is. Meeting rooms are booked in the calendar; a room that is empty ten minutes after the hour is free for others.
## Post and parcels
Private parcels may be sent to the company if they are small. They are kept at the front desk for a week. Letters \
leave at 16:00, dangerous goods only on Tuesday with the special carrier.
## Waste and energy
Paper, metal, glass and batteries are collected apart. Switch off machines and screens at night, and the compressor \
at the weekend. The heating of the offices goes down to 16 degrees at 19:00.
## The press
Only the managing directors talk to newspapers and television in the name of the company. On the internet say that \
you speak for yourself.""",
]

TRAVEL = """# Business travel
## How do I book a trip?
Book trains and hotels yourself through the travel portal, flights through the office. The company card is charged, \
so you pay nothing in advance. Book at least two weeks ahead where you can.
## Which class may I use?
Trains: second class, first class for journeys of more than three hours. Flights: economy, premium economy above six \
hours. We do not fly where a train takes less than five hours.
## Hotels
A room may cost up to 130 euros a night with breakfast, 180 euros in London, Paris, Zurich and New York. Ask before \
you book anything dearer.
## Travelling time
Time on the train counts as working time in full if you work, by half if you do not. Time at the wheel counts in full.
## Rental cars
Rent the smallest class that fits the load. Fill the tank before you return it. After an accident call the police, \
even if only the paint is scratched, and then the office.
## Health and insurance
Everybody who travels for us is insured for illness and luggage abroad. The number of the emergency line is on the \
back of the company card. Vaccinations that a destination needs are paid.
## Trade fairs
At a fair you work as long as the hall is open, with two hours for lunch and rest. The day after your return is free. \
Clothes with the company's name are lent, and cleaned afterwards. Business cards come from the office in two weeks.
## Guests and invitations
A meal with a customer may cost up to 60 euros a head. Write the names and the purpose on the bill. Alcohol is paid \
for in the evening only. Tickets for concerts or sports are never given and never accepted.
## Visits to customers
Announce a service visit three days before and ask for the safety rules of the site. Bring a certificate of \
calibration for each weight that you use. A balance must stand for an hour in its room before it is adjusted. If the \
customer's people are not there, do not begin: leave a card and call the office.
## Delays
If you miss the last train because ours was late, take a hotel or a taxi, whichever is cheaper, and keep the receipt. \
For more than two hours the railway gives money back: the form is in the portal, and the money belongs to the \
company.
## Private days
A trip may be prolonged by private days. The journey is paid as if you had come back at once; hotel and meals of \
those days are yours. The insurance covers five of them.
"""


class Handbook(FPDF):
    """A running header and a numbered footer, but for the page that was scanned."""

    scan = False

    def header(self) -> None:
        if not self.scan:
            self.set_font("Helvetica", size=8)
            self.cell(0, 6, "Penrow Scales - Employee handbook 2026")
            self.ln(14)

    def footer(self) -> None:
        if not self.scan:
            self.set_y(-15)
            self.set_font("Helvetica", size=8)
            self.cell(0, 6, f"Page {self.page_no()} of {{nb}}", align="C")

    def write_page(self, text: str) -> None:
        self.scan = not text
        self.add_page()
        rows: list[list[str]] = []
        for line in [*text.splitlines(), ""]:
            if line.startswith("|"):
                rows.append([cell.strip() for cell in line.strip("|").split("|")])
                continue
            if rows:
                self.set_font("Helvetica", size=10)
                with self.table(rows, width=160, align="L"):
                    pass
                rows = []
                self.ln(4)
            level = len(line) - len(line.lstrip("#"))
            self.set_font("Helvetica", "B" if level else "", {0: 11, 1: 18, 2: 13}[level])
            if line:
                self.multi_cell(
                    0, 6 + 2 * (level == 1), line.lstrip("# "), new_x="LMARGIN", new_y="NEXT", markdown=True
                )
                self.ln(2)

    def draw_floor_plan(self) -> None:
        """What a scanned page is for a program: a picture without letters."""
        self.set_line_width(0.6)
        for x, y, width, height in ((25, 40, 160, 200), (25, 40, 70, 80), (95, 40, 90, 50), (25, 160, 110, 80)):
            self.rect(x, y, width, height)
        for x, y in ((60, 120), (140, 90), (135, 200)):
            self.circle(x, y, 4)


def write_pdf(file: Path) -> None:
    paper = Handbook()
    paper.set_creation_date(MADE)
    paper.set_title("Employee handbook 2026")
    paper.set_margin(22)
    for text in PAGES:
        paper.write_page(text)
        if not text:
            paper.draw_floor_plan()
    paper.scan = False
    paper.output(str(file))


def write_locked_pdf(file: Path) -> None:
    paper = FPDF()
    paper.set_creation_date(MADE)
    paper.set_encryption(owner_password="owner", user_password="not in the handbook")
    paper.add_page()
    paper.set_font("Helvetica", size=11)
    paper.cell(0, 8, "Salary bands 2026")
    paper.output(str(file))


TYPES = """<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">\
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>\
<Override PartName="/word/document.xml" \
ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/>\
<Override PartName="/word/styles.xml" \
ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.styles+xml"/></Types>"""
RELATIONS = """<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" \
Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/{}" Target="{}"/></Relationships>"""
WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
STYLES = f"""<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<w:styles {WORD}><w:style w:type="paragraph" w:styleId="Heading1"><w:name w:val="heading 1"/></w:style>\
<w:style w:type="paragraph" w:styleId="Heading2"><w:name w:val="heading 2"/></w:style></w:styles>"""


def write_docx(file: Path, text: str) -> None:
    """A Word file with headings and paragraphs: a zip of XML."""
    paragraphs = []
    for line in text.splitlines():
        hashes, words = re.fullmatch(r"(#*) ?(.*)", line).groups()  # type: ignore[union-attr]
        style = f'<w:pPr><w:pStyle w:val="Heading{len(hashes)}"/></w:pPr>' if hashes else ""
        paragraphs.append(f'<w:p>{style}<w:r><w:t xml:space="preserve">{escape(words)}</w:t></w:r></w:p>')
    body = f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n<w:document {WORD}><w:body>'
    parts = {
        "[Content_Types].xml": TYPES,
        "_rels/.rels": RELATIONS.format("officeDocument", "word/document.xml"),
        "word/_rels/document.xml.rels": RELATIONS.format("styles", "styles.xml"),
        "word/styles.xml": STYLES,
        "word/document.xml": body + "".join(paragraphs) + "</w:body></w:document>",
    }
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name, MADE.timetuple()[:6]), content)


def write_handbook(folder: Path) -> None:
    """``handbook.pdf``, ``salaries.pdf`` and ``travel.docx`` into ``folder``, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    write_pdf(folder / "handbook.pdf")
    write_locked_pdf(folder / "salaries.pdf")
    write_docx(folder / "travel.docx", TRAVEL)


if __name__ == "__main__":
    write_handbook(Path(sys.argv[1]) if len(sys.argv) > 1 else HANDBOOK)
