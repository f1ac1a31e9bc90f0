"""Random documents of every kind: each sentence is in the text once and in order, and what is hidden is not.

A PDF has such a test in ``test_corpus_pdf``.
"""

from __future__ import annotations

import random
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import EmailMessage
from html import escape
from itertools import pairwise
from pathlib import Path

import pytest

from ragkit.corpus import folder, load_folder

pytest.importorskip("kreuzberg", reason="the extra 'formats' is not installed")

FILES = 30
ENGLISH = "pump lid valve bar R&D AT&T x<3 torque manual (new) “quoted” it's 50% naïve Ærø Prüfung"
GERMAN = "Prüfung der Kühlanlage jährlich fällig für große Geräte schließen die Tür"
FRENCH = "l'employé présente à son supérieur même début année congé ça"
POLISH = "pracownik musi złożyć wniosek o urlop do kierownika działu każdego roku"
TURKISH = "çalışan izin başvurusunu yöneticisine yazılı geçersiz değil mi"
GREEK = "ο κανονισμός λέει ότι η άδεια ζητείται γραπτώς από τον υπεύθυνο του τμήματος"
RUSSIAN = "правила отпуска требуют подписи начальника отдела и согласия каждого сотрудника"
JAPANESE = "休暇は年に二十八日です 申請は上司の署名が必要です 残りは三月に失効します"
CHINESE = "员工每年有二十八天假期 申请需要经理签字 剩余的假期在三月底失效 请注意"
KOREAN = "직원은 매년 휴가가 있습니다 신청에는 관리자의 서명이 필요합니다"


@dataclass
class Draft:
    """A document that is being made up: what its text has to say, and what may not be in it."""

    rng: random.Random
    words: str = ENGLISH
    visible: list[str] = field(default_factory=list)
    """In this order."""
    beside: list[str] = field(default_factory=list)
    """Notes and boxes, wherever they stand."""
    hidden: list[str] = field(default_factory=list)
    count: int = 0

    def sentence(self, where: list[str]) -> str:
        self.count += 1
        words = self.rng.choices(self.words.split(), k=self.rng.randint(3, 9))
        where.append(f"S{self.count} {' '.join(words)} E{self.count}.")
        return where[-1]

    def say(self) -> str:
        return self.sentence(self.visible)

    def note(self) -> str:
        return self.sentence(self.beside)

    def hide(self) -> str:
        return self.sentence(self.hidden)

    def some(self, *parts: Callable[[], str]) -> str:
        """A few of ``parts`` after each other."""
        return "".join(self.rng.choice(parts)() for _ in range(self.rng.randint(3, 8)))

    def cut(self, text: str) -> list[str]:
        """A text in one to four pieces."""
        cuts = sorted(self.rng.sample(range(1, len(text)), self.rng.randint(0, 3)))
        return [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]

    def grid(self) -> list[list[tuple[int, int] | None]]:
        """A table: the height and the width of each cell, ``None`` where another one lies."""
        rows, columns = self.rng.randint(2, 4), self.rng.randint(2, 4)
        table: list[list[tuple[int, int] | None]] = [[(1, 1)] * columns for _ in range(rows)]
        for row in range(rows) if self.rng.random() < 0.6 else ():
            for column in range(columns):
                if table[row][column] is None:
                    continue
                height = self.rng.randint(1, min(2, rows - row)) if row else 1
                width = 1
                while column + width < columns and table[row][column + width] and self.rng.random() < 0.3:
                    width += 1
                for i in range(row, row + height):
                    table[i][column : column + width] = [None] * width
                table[row][column] = (height, width)
        return table


def zipped(file: Path, parts: dict[str, str]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
SCHEMAS = "http://schemas.openxmlformats.org"
OFFICE = f"{SCHEMAS}/officeDocument/2006/relationships"
NAMESPACES = " ".join(
    f'xmlns:{prefix}="{uri}"'
    for prefix, uri in {
        "w": f"{SCHEMAS}/wordprocessingml/2006/main",
        "p": f"{SCHEMAS}/presentationml/2006/main",
        "a": f"{SCHEMAS}/drawingml/2006/main",
        "r": OFFICE,
        "mc": f"{SCHEMAS}/markup-compatibility/2006",
        "wps": "http://schemas.microsoft.com/office/word/2010/wordprocessingShape",
        "v": "urn:schemas-microsoft-com:vml",
    }.items()
)
TABLE = f"{SCHEMAS}/drawingml/2006/table"
Links = list[tuple[str, str]]
"""What a part of an Office file refers to, as rId1, rId2, ...: kinds and targets."""


def el(name: str, *inner: str, **attributes: str | int) -> str:
    """An element; attributes have the prefix ``w:`` where it has."""
    prefix = "w:" if name.startswith("w:") else ""
    looks = "".join(f' {prefix}{key}="{value}"' for key, value in attributes.items())
    return f"<{name}{looks}>{''.join(inner)}</{name}>"


def office(file: Path, main: str, parts: dict[str, str], links: dict[str, Links]) -> None:
    """An Office file whose main part is ``main``."""
    kinds = {"word": "wordprocessingml.document", "xl": "spreadsheetml.sheet", "ppt": "presentationml.presentation"}
    kind = f"application/vnd.openxmlformats-officedocument.{kinds[main.split('/')[0]]}.main+xml"
    types = '<Default Extension="xml" ContentType="application/xml"/>'
    types += '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    types += f'<Override PartName="/{main}" ContentType="{kind}"/>'
    for name in parts:
        if name.startswith(("ppt/slides/", "ppt/notesSlides/")):
            what = name.split("/")[1].removesuffix("s")
            form = f"application/vnd.openxmlformats-officedocument.presentationml.{what}+xml"
            types += f'<Override PartName="/{name}" ContentType="{form}"/>'
    out = {"[Content_Types].xml": f'<Types xmlns="{SCHEMAS}/package/2006/content-types">{types}</Types>'}
    for part, targets in {"": [("officeDocument", main)], **links}.items():
        path, _, leaf = part.rpartition("/")
        rows = ""
        for n, (what, target) in enumerate(targets, 1):
            where = "External" if what == "hyperlink" else "Internal"
            rows += f'<Relationship Id="rId{n}" Type="{OFFICE}/{what}" Target="{target}" TargetMode="{where}"/>'
        name = f"{path}/_rels/{leaf}.rels" if path else f"_rels/{leaf}.rels"
        out[name] = f'<Relationships xmlns="{SCHEMAS}/package/2006/relationships">{rows}</Relationships>'
    zipped(file, {name: XML + text for name, text in (out | parts).items()})


def write_docx(file: Path, draft: Draft) -> None:
    rng = draft.rng
    notes: dict[str, list[str]] = {"footnote": [], "endnote": [], "comment": []}

    def run(text: str, look: str = "") -> str:
        return el("w:r", el("w:rPr", look), f'<w:t xml:space="preserve">{escape(text)}</w:t>')

    def runs(text: str) -> str:
        between = ["", '<w:proofErr w:type="spellStart"/>', '<w:bookmarkStart w:id="1" w:name="b"/>']
        return "".join(run(piece, rng.choice(["", "<w:b/>"])) + rng.choice(between) for piece in draft.cut(text))

    def p(inner: str, look: str = "") -> str:
        return el("w:p", el("w:pPr", look), inner)

    def paragraph() -> str:
        return p(runs(draft.say()))

    def heading() -> str:
        return p(runs(draft.say()), f'<w:pStyle w:val="Heading{rng.randint(1, 3)}"/>')

    def items() -> str:
        looks = [f'<w:ilvl w:val="{level}"/><w:numId w:val="{rng.randint(1, 2)}"/>' for level in (0, 1, 1, 0)]
        return "".join(p(runs(draft.say()), el("w:numPr", look)) for look in looks)

    def insertion() -> str:
        return p(runs(draft.say()) + el("w:ins", runs(f" {draft.say()}")))

    def deletion() -> str:
        gone = el("w:del", el("w:r", el("w:delText", escape(draft.hide()))))
        return p(gone + runs(draft.say())) + p(gone)

    def move() -> str:
        text = runs(draft.say())
        return p(el("w:moveFrom", text)) + p(el("w:moveTo", text))

    def control() -> str:
        block = el("w:sdt", el("w:sdtContent", paragraph()))
        return block + p(runs(draft.say()) + el("w:sdt", el("w:sdtContent", runs(f" {draft.say()}"))))

    def fields() -> str:
        code = el("w:r", el("w:instrText", escape(draft.hide())))
        shown = code + runs(draft.say()) + el("w:fldSimple", runs(f" {draft.say()}"), instr="REF x")
        return p(shown + el("w:hyperlink", runs(f" {draft.say()}"), anchor="b"))

    def box() -> str:
        inner = el("w:txbxContent", p(runs(draft.note())), p(runs(draft.note())))
        new = el("w:drawing", el("a:graphic", el("wps:wsp", el("wps:txbx", inner))))
        old = el("w:pict", el("v:shape", el("v:textbox", inner)))
        both = el("mc:AlternateContent", el("mc:Choice", new, Requires="wps"), el("mc:Fallback", old))
        return p(runs(draft.say()) + el("w:r", rng.choice([old, both])))

    def noted() -> str:
        kind = rng.choice(["footnote", "endnote"])
        notes[kind].append(p(runs(draft.note())))
        mark = el("w:r", el(f"w:{kind}Reference", id=len(notes[kind])))
        return p(runs(draft.say()) + mark + runs(f" {draft.say()}"))

    def commented() -> str:
        notes["comment"].append(p(runs(draft.hide())))
        return p(runs(draft.say()) + el("w:r", el("w:commentReference", id=len(notes["comment"]))))

    def table(depth: int = 0) -> str:
        rows, below = "", dict[int, int]()
        for row in draft.grid():
            cells = ""
            for column, span in enumerate(row):
                inner = "<w:p/>"
                if span:
                    height, width = span
                    look = f'<w:gridSpan w:val="{width}"/>' + '<w:vMerge w:val="restart"/>' * (height > 1)
                    inner = paragraph() + (paragraph() if rng.random() < 0.3 else "")
                    inner += table(1) + "<w:p/>" if depth == 0 and rng.random() < 0.1 else ""
                    below[column] = width if height > 1 else 0
                elif below.get(column):
                    look = f'<w:gridSpan w:val="{below.pop(column)}"/><w:vMerge/>'
                else:
                    continue
                cells += el("w:tc", el("w:tcPr", look), inner)
            rows += el("w:tr", cells)
        return el("w:tbl", rows) + "<w:p/>"

    def odd() -> str:
        """A line break or tab within a sentence, a smart tag."""
        first, rest = draft.say().split(" ", 1)
        broken = run(first) + el("w:r", rng.choice(["<w:br/>", "<w:tab/>"])) + run(rest)
        return p(broken + el("w:smartTag", runs(f" {draft.say()}")))

    parts = [paragraph, heading, items, insertion, deletion, move, control, fields, box, noted, commented, table, odd]
    body = draft.some(*parts)
    levels = "".join(el("w:lvl", '<w:numFmt w:val="{0}"/>', ilvl=i) for i in (0, 1))
    numbering = "".join(
        el("w:abstractNum", levels.format(form), abstractNumId=n) for n, form in ((1, "bullet"), (2, "decimal"))
    ) + "".join(el("w:num", f'<w:abstractNumId w:val="{n}"/>', numId=n) for n in (1, 2))
    styles = "".join(
        el("w:style", f'<w:name w:val="heading {n}"/>', type="paragraph", styleId=f"Heading{n}") for n in (1, 2, 3)
    )
    texts = {
        "document": el("w:body", body, '<w:sectPr><w:headerReference r:id="rId3"/></w:sectPr>'),
        "styles": styles,
        "numbering": numbering,
        "header": p(runs(draft.hide())),
        "footer": p(runs(draft.hide())),
    }
    for kind, listed in notes.items():
        texts[f"{kind}s"] = "".join(el(f"w:{kind}", text, id=n) for n, text in enumerate(listed, 1))
    files = {f"word/{name}.xml": f"<w:{name} {NAMESPACES}>{text}</w:{name}>" for name, text in texts.items()}
    links = [(name, f"{name}.xml") for name in texts if name != "document"]
    office(file, "word/document.xml", files, {"word/document.xml": links})


def write_pptx(file: Path, draft: Draft) -> None:
    rng = draft.rng

    def p(text: str, level: int = 0) -> str:
        return el("a:p", el("a:pPr", lvl=level), *(el("a:r", el("a:t", escape(piece))) for piece in draft.cut(text)))

    def shape(*paragraphs: str, place: str = "") -> str:
        kind = el("p:nvSpPr", el("p:nvPr", f'<p:ph type="{place}"/>' if place else ""))
        return el("p:sp", kind, el("p:txBody", *paragraphs))

    def bullets() -> str:
        return shape(*(p(draft.say(), level) for level in (0, 1, 1, 0)), place="body")

    def box() -> str:
        return shape(p(draft.say()), p(draft.say()))

    def group() -> str:
        return el("p:grpSp", box(), box())

    def table() -> str:
        rows = ""
        for row in draft.grid():
            cells = (
                el("a:tc", el("a:txBody", p(draft.say())), rowSpan=span[0], gridSpan=span[1])
                if span
                else el("a:tc", el("a:txBody", p(draft.hide())), hMerge=1)
                for span in row
            )
            rows += el("a:tr", *cells)
        return el("p:graphicFrame", el("a:graphic", el("a:graphicData", el("a:tbl", rows), uri=TABLE)))

    numbers = rng.sample(range(1, 13), rng.randint(2, 6))  # a slide's file need not be numbered as it is shown
    files, links = {}, {"ppt/presentation.xml": [("slide", f"slides/slide{n}.xml") for n in numbers]}
    for n in numbers:
        shapes = shape(p(draft.say()), place="title") + draft.some(bullets, box, group, table)
        shapes += shape(p(draft.hide()), place="sldNum")
        files[f"ppt/slides/slide{n}.xml"] = f"<p:sld {NAMESPACES}>{el('p:cSld', el('p:spTree', shapes))}</p:sld>"
        note = el("p:cSld", el("p:spTree", shape(p(draft.note()), place="body")))
        files[f"ppt/notesSlides/n{n}.xml"] = f"<p:notes {NAMESPACES}>{note}</p:notes>"
        links[f"ppt/slides/slide{n}.xml"] = [("notesSlide", f"../notesSlides/n{n}.xml")]
    ids = "".join(f'<p:sldId id="{255 + n}" r:id="rId{n}"/>' for n in range(1, len(numbers) + 1))
    files["ppt/presentation.xml"] = f"<p:presentation {NAMESPACES}>{el('p:sldIdLst', ids)}</p:presentation>"
    office(file, "ppt/presentation.xml", files, links)


def write_xlsx(file: Path, draft: Draft) -> None:
    rng = draft.rng
    sheet = f'xmlns="{SCHEMAS}/spreadsheetml/2006/main" xmlns:r="{OFFICE}"'
    strings: list[str] = []

    def cell(place: str) -> str:
        form = rng.choice(["shared", "rich", "lines", "inline", "formula", "number", "date", "share", "empty"])
        if form == "empty":
            return ""
        if form in ("shared", "rich", "lines"):
            text = draft.say()
            cut = [text.replace(" ", "\n", 1)] if form == "lines" else draft.cut(text) if form == "rich" else [text]
            pieces = "".join(el("r", f'<t xml:space="preserve">{escape(piece)}</t>') for piece in cut)
            strings.append(pieces + el("rPh", el("t", escape(draft.hide())), sb=0, eb=1))  # how it is pronounced
            return el("c", el("v", str(len(strings) - 1)), r=place, t="s")
        if form == "inline":
            return el("c", el("is", el("t", escape(draft.say()))), r=place, t="inlineStr")
        if form == "formula":
            return el("c", el("f", 'CONCATENATE("S0",A1)'), el("v", escape(draft.say())), r=place, t="str")
        number = rng.randint(10_000, 99_999) + rng.choice([0, 0.25])
        day = rng.randint(0, 27)
        value, shown, style = {
            "number": (number, f"{number}", 0),
            "date": (45323 + day, f"2024-02-{day + 1:02}", 1),
            "share": (0.175, "0.175", 0),
        }[form]
        draft.visible.append(shown)
        return el("c", el("v", str(value)), r=place, s=style)

    files, names = {}, []
    for n in range(1, rng.randint(2, 4)):
        names.append(f"Sheet {n} of R&D")
        draft.visible.append(names[-1])
        merges, rows = "", ""
        for r, row in enumerate(draft.grid(), 1):
            rows += el("row", *(cell(f"{'ABCD'[c]}{r}") for c, span in enumerate(row) if span), r=r)
            for c, span in enumerate(row):
                if span and span != (1, 1):
                    last = f"{'ABCD'[c + span[1] - 1]}{r + span[0] - 1}"
                    merges += f'<mergeCell ref="{"ABCD"[c]}{r}:{last}"/>'
        rows += el("row", el("c", el("is", el("t", escape(draft.say()))), r="A9", t="inlineStr"), r=9)
        merges = el("mergeCells", merges) if merges else ""
        files[f"xl/worksheets/sheet{n}.xml"] = f"<worksheet {sheet}>{el('sheetData', rows)}{merges}</worksheet>"
    sheets = "".join(f'<sheet name="{escape(name)}" sheetId="{n}" r:id="rId{n}"/>' for n, name in enumerate(names, 1))
    files["xl/workbook.xml"] = f"<workbook {sheet}>{el('sheets', sheets)}</workbook>"
    files["xl/sharedStrings.xml"] = f"<sst {sheet}>{''.join(el('si', text) for text in strings)}</sst>"
    formats = el("cellXfs", '<xf numFmtId="0"/><xf numFmtId="14" applyNumberFormat="1"/>')
    files["xl/styles.xml"] = f"<styleSheet {sheet}>{formats}</styleSheet>"
    links = [("worksheet", f"worksheets/sheet{n}.xml") for n in range(1, len(names) + 1)]
    links += [("sharedStrings", "sharedStrings.xml"), ("styles", "styles.xml")]
    office(file, "xl/workbook.xml", files, {"xl/workbook.xml": links})


def web_page(draft: Draft, strict: bool = False) -> str:
    """The body of a page; unless it is ``strict``, some end tags that HTML does not ask for are left out."""
    rng = draft.rng

    def end(tag: str) -> str:
        return f"</{tag}>" if strict or rng.random() < 0.5 else ""

    def coded(text: str) -> str:
        text = escape(text)
        return text if strict else text.replace("ü", rng.choice(["ü", "&uuml;", "&#252;"])).replace("“", "&ldquo;")

    def say() -> str:
        first, word, rest = draft.say().split(" ", 2)
        tag = rng.choice(["b", "em", "code", "span", "mark"])
        word = f"<{tag}>{coded(word)}</{tag}>" if rng.random() < 0.3 else coded(word)
        return f"{first} {word} {coded(rest)}"

    def paragraph() -> str:
        return f"<p>{say()}{end('p')}\n"

    def heading() -> str:
        return el(f"h{rng.randint(1, 4)}", say())

    def bare() -> str:
        return f"<div>{say()}<div>{say()}</div>{say()}</div><section>{say()}<br/>{say()}<hr/></section>"

    def items(depth: int = 0) -> str:
        parts = [f"<li>{say()}{items(depth + 1) if depth < 2 and rng.random() < 0.3 else ''}{end('li')}" for _ in "123"]
        return el(rng.choice(["ul", "ol"]), *parts)

    def definitions() -> str:
        return el("dl", *(f"<dt>{say()}{end('dt')}<dd>{say()}{end('dd')}" for _ in "12"))

    def folded() -> str:
        return f"<details><summary>{say()}</summary>{paragraph()}</details><blockquote>{paragraph()}</blockquote>"

    def code() -> str:
        return f"<pre><code>x = 1\n  {escape(draft.say())}\n</code></pre>"

    def table() -> str:
        rows = f"<caption>{say()}</caption>" if rng.random() < 0.3 else ""
        for row in draft.grid():
            cells = (f'<td rowspan="{span[0]}" colspan="{span[1]}">{say()}{end("td")}' for span in row if span)
            rows += f"<tr>{''.join(cells)}{end('tr')}"
        return el("table", rows)

    def form() -> str:
        return f"<form><p>{say()}</p><label>{say()}</label> <button>{say()}</button></form>"

    def furniture() -> str:
        around = f"<header>{say()}</header><nav><a href='x'>{coded(draft.hide())}</a></nav>"
        return f"{around}<main>{say()}</main><aside>{say()}</aside><footer>{say()}</footer>"

    def hidden() -> str:
        parts = [f"<!-- {escape(draft.hide())} -->", f"<script>var x = '{draft.hide()}';</script>"]
        parts += [f"<style>/* {draft.hide()} */</style>", f"<template>{coded(draft.hide())}</template>"]
        parts += [] if strict else [f"<![if !mso]>{paragraph()}<![endif]><!--[if mso]>{draft.hide()}<![endif]-->"]
        return "".join(parts)

    return draft.some(paragraph, heading, bare, items, definitions, folded, code, table, form, furniture, hidden)


def write_html(file: Path, draft: Draft) -> None:
    charset = draft.rng.choice(["utf-8", "utf-8-sig", "utf-16", "windows-1252", "iso-8859-1"])
    name = charset.removesuffix("-sig")
    metas = [f"<meta charset={name}>", f'<META http-equiv="Content-Type" content="text/html; charset={name}">']
    head = draft.rng.choice(["", "<head>", "<html><head>"]) + draft.rng.choice(metas) + "<title>T</title>"
    head += draft.rng.choice(["", "</head>", "<style>p {}</style></head><body>"])
    file.write_bytes(f"<!DOCTYPE html>{head}{web_page(draft)}".encode(charset, "xmlcharrefreplace"))


def write_epub(file: Path, draft: Draft) -> None:
    numbers = draft.rng.sample(range(1, 13), draft.rng.randint(2, 6))  # not in the order of their names
    listed = "".join(f'<item id="c{n}" href="c{n}.xhtml" media-type="application/xhtml+xml"/>' for n in sorted(numbers))
    spine = "".join(f'<itemref idref="c{n}"/>' for n in numbers)
    about = '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>Book</dc:title></metadata>'
    root = '<rootfile full-path="OEBPS/content.opf" media-type="application/oebps-package+xml"/>'
    container = "urn:oasis:names:tc:opendocument:xmlns:container"
    parts = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": f'<container xmlns="{container}"><rootfiles>{root}</rootfiles></container>',
        "OEBPS/content.opf": '<package xmlns="http://www.idpf.org/2007/opf" version="3.0">'
        f"{about}<manifest>{listed}</manifest><spine>{spine}</spine></package>",
    }
    for n in numbers:
        head = '<html xmlns="http://www.w3.org/1999/xhtml"><head><title>T</title></head>'
        parts[f"OEBPS/c{n}.xhtml"] = f"{XML}{head}<body>{web_page(draft, strict=True)}</body></html>"
    zipped(file, parts)


def write_eml(file: Path, draft: Draft) -> None:
    rng = draft.rng
    mail = EmailMessage()
    mail["Subject"] = "Prüfung R&D"
    draft.visible.append(mail["Subject"])
    mail["From"] = "Jörg <j@example.org>"
    charset, encoding = rng.choice(["utf-8", "windows-1252"]), rng.choice(["quoted-printable", "base64", "8bit"])
    form = rng.choice(["plain", "html", "both", "picture", "text", "mail"])
    if form == "html":
        mail.set_content(f"<html>{web_page(draft, strict=True)}</html>", "html", charset="utf-8", cte=encoding)
    else:
        mail.set_content("\n\n".join(draft.say() for _ in range(5)), charset=charset, cte=encoding)
    if form == "both":
        page = "".join(el("p", escape(sentence)) for sentence in draft.visible[1:])
        mail.add_alternative(page, "html", charset=charset)
    if form == "picture":
        draft.beside.append("Plän.png")
        mail.add_attachment(b"\x89PNG\0\0", "image", "png", filename="Plän.png")
    if form == "text":
        mail.add_attachment(draft.note(), filename="notes.txt")
    if form == "mail":
        inner = EmailMessage()
        inner["Subject"] = "Forwarded"
        inner.set_content(draft.note())
        mail.add_attachment(inner)
    file.write_bytes(mail.as_bytes())


ENCODINGS = {
    **dict.fromkeys(("utf-8", "utf-8-sig", "utf-16"), ENGLISH),
    **dict.fromkeys(("cp1252", "iso-8859-1"), GERMAN),
    **dict.fromkeys(("cp1252 ", "iso-8859-15"), FRENCH),
    **dict.fromkeys(("cp1250", "iso-8859-2"), POLISH),
    **dict.fromkeys(("cp1254", "iso-8859-9"), TURKISH),
    **dict.fromkeys(("cp1253", "iso-8859-7"), GREEK),
    **dict.fromkeys(("cp1251", "koi8-r"), RUSSIAN),
    **dict.fromkeys(("shift_jis", "euc_jp"), JAPANESE),
    "gb18030": CHINESE,
    "euc_kr": KOREAN,
}


def write_txt(file: Path, draft: Draft) -> None:
    encoding, draft.words = draft.rng.choice(list(ENCODINGS.items()))
    lines = [draft.say() for _ in range(draft.rng.randint(5, 20))]
    file.write_bytes(draft.rng.choice(["\n", "\r\n"]).join(lines).encode(encoding.strip()))


def write_md(file: Path, draft: Draft) -> None:
    def write(form: str) -> Callable[[], str]:
        return lambda: re.sub("@", lambda _: draft.say(), form)

    forms = [
        "## @\n\n",
        "@\n=====\n\n",
        "@\n\n",
        "```python\n# @\n---\n```\n\n",
        "- @\n  1. @\n- @\n\n",
        "---\n\n@\n\n+++\n\n",
    ]
    forms.append("| @ | @ |\n|---|---|\n| @ | @ |\n\n")
    fronts = ["", "---\n---\n", "---\n\n", f"---\ntitle: A\nabstract: >\n  {draft.hide()}\n---\n"]
    fronts.append(f'+++\ntitle = "A"\nabstract = "{draft.hide()}"\n+++\n')
    file.write_text(draft.rng.choice(fronts) + draft.some(*map(write, forms)), encoding="utf-8")


WRITERS = {
    "docx": write_docx,
    "pptx": write_pptx,
    "xlsx": write_xlsx,
    "html": write_html,
    "epub": write_epub,
    "eml": write_eml,
    "txt": write_txt,
    "md": write_md,
}


def plain(text: str) -> str:
    """Without what Markdown escapes and stresses, and with single spaces."""
    text = re.sub(r"\[([^\]\[]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"\\([^\w\s])", r"\1", text)
    text = re.sub(r"\[\^\d+\]:?|[*`_~=]|^[>\s]+", "", text, flags=re.MULTILINE)
    return " ".join(text.split())


@pytest.mark.parametrize("kind", WRITERS)
def test_every_sentence_of_a_random_document_is_read_once_and_in_order(kind: str, tmp_path: Path):
    drafts = {f"{n}": Draft(random.Random(n)) for n in range(FILES)}
    for name, draft in drafts.items():
        WRITERS[kind](tmp_path / f"{name}.{kind}", draft)
    corpus = load_folder(tmp_path)
    assert {document.id for document in corpus.documents} == set(drafts)
    for document in corpus.documents:
        text, draft = plain(document.text), drafts[document.id]
        end = 0
        for sentence in map(plain, draft.visible):
            assert sentence in text[end:], f"{document.id}.{kind}: missing, or not in its place"
            end = text.index(sentence, end) + len(sentence)
        for sentence in map(plain, draft.visible + draft.beside):
            assert text.count(sentence) == 1 or not sentence.startswith("S"), f"{document.id}.{kind}"
            assert sentence in text, f"{document.id}.{kind}"
        assert not [sentence for sentence in map(plain, draft.hidden) if sentence in text], f"{document.id}.{kind}"


def test_word_files_keep_their_headings_links_and_notes(tmp_path: Path):
    def p(text: str, style: str = "") -> str:
        look = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
        return el("w:p", look, el("w:r", el("w:t", text)))

    link = el("w:p", '<w:hyperlink r:id="rId3"><w:r><w:t>our pages</w:t></w:r></w:hyperlink>')
    noted = el("w:p", el("w:r", el("w:t", "Oil it.")), el("w:r", '<w:footnoteReference w:id="7"/>'))
    names = {"T": "Title", "A": "heading 2"}
    texts = {
        "document": el("w:body", p("Pumps", "T"), p("Care", "A"), link, noted),
        "styles": "".join(
            el("w:style", f'<w:name w:val="{name}"/>', type="paragraph", styleId=style) for style, name in names.items()
        ),
        "footnotes": el("w:footnote", p("Once a year."), id=7),
    }
    files = {f"word/{name}.xml": f"<w:{name} {NAMESPACES}>{text}</w:{name}>" for name, text in texts.items()}
    links = [(name, f"{name}.xml") for name in texts if name != "document"] + [("hyperlink", "https://pumps.example")]
    office(tmp_path / "a.docx", "word/document.xml", files, {"word/document.xml": links})
    [document] = load_folder(tmp_path).documents
    assert document.title == "Pumps"
    assert document.text == (
        "# Pumps\n\n## Care\n\n[our pages](https://pumps.example)\n\nOil it.[[1]](#footnote-7)\n\n"
        "1. Once a year. [↑](#footnote-ref-7)"
    )


@pytest.mark.parametrize("kind", ["docx", "pptx", "xlsx", "epub", "eml", "html"])
def test_broken_files_are_named_and_the_others_go_on(kind: str, tmp_path: Path, recwarn: pytest.WarningsRecorder):
    WRITERS[kind](tmp_path / f"good.{kind}", Draft(random.Random(1)))
    data = (tmp_path / f"good.{kind}").read_bytes()
    bad = {
        "empty": b"",
        "picture": b"\x89PNG\r\n\0\0",
        "locked": b"\xd0\xcf\x11\xe0" + "EncryptedPackage".encode("utf-16-le"),
    }
    if folder.ARCHIVES.count(f".{kind}"):
        middle = len(data) // 3
        bad |= {"cut": data[:middle], "changed": data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]}
    for name, content in bad.items():
        (tmp_path / f"{name}.{kind}").write_bytes(content)
    corpus = load_folder(tmp_path)
    assert [document.id for document in corpus.documents] == ["good"]
    left_out = corpus.report().set_index("file")["left out"]
    assert set(left_out.index[left_out != ""]) == {f"{name}.{kind}" for name in bad}
    if f".{kind}" in folder.ARCHIVES:
        assert left_out[f"locked.{kind}"] == f"{kind} files that need a password and are left out"


def test_an_archive_that_is_too_large_unpacked_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(folder, "MAX_UNPACKED", 1 << 20)
    (tmp_path / "good.txt").write_text("words")
    zipped(tmp_path / "bomb.docx", {"word/document.xml": " " * (2 << 20)})
    with pytest.warns(UserWarning, match=r"files above 1 MB when unpacked left out: bomb.docx"):
        load_folder(tmp_path)


def test_a_book_whose_chapters_are_encrypted_is_named(tmp_path: Path):
    (tmp_path / "good.txt").write_text("words")
    zipped(tmp_path / "book.epub", {"META-INF/encryption.xml": '<CipherReference URI="OEBPS/c1.xhtml"/>'})
    with pytest.warns(UserWarning, match=r"epub files that need a password and are left out: book.epub"):
        load_folder(tmp_path)


def test_a_mail_with_an_odd_sender_is_read_and_has_its_day(tmp_path: Path):
    head = b"From: a: b <x@\nDate: Fri, 22 May 2026 09:12:00 +0200\nSubject: =?utf-8?q?Pr=C3=BCfung?=\n\n"
    (tmp_path / "a.eml").write_bytes(head + "Grüße".encode("cp1252"))
    (mail,) = load_folder(tmp_path).documents
    assert (mail.title, mail.metadata["date"]) == ("Prüfung", "2026-05-22")
    assert mail.text.endswith("\n\nGrüße")
