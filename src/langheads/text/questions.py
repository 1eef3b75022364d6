"""Questions with answers, the same examples in the same order in every language.

Examples are aligned by id and sorted by SHA-256 of (seed, id), so example n is the same one in
every language, whatever the order of lines in the files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import Formatter
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from langheads.io.arguments import asked_languages, check_seed
from langheads.io.errors import InputError, logger
from langheads.io.files import MAX_LINE, json_lines
from langheads.io.records import Id, Record, Text, expected
from langheads.text.readers import language_files, languages_in

QA_TEMPLATE = "{context}\nQ: {question}\nA:"
"""The default template; a space joins the answer, also in languages that write without spaces."""
_PARTS = {
    "ar": ("أجب عن السؤال من النص بأقل عدد من الكلمات.", "النص", "السؤال", "الجواب"),
    "de": ("Beantworte die Frage aus dem Text, so kurz wie möglich.", "Text", "Frage", "Antwort"),
    "el": ("Απάντησε στην ερώτηση από το κείμενο, όσο πιο σύντομα γίνεται.", "Κείμενο", "Ερώτηση",
           "Απάντηση"),
    "en": ("Answer the question from the text, as briefly as you can.", "Text", "Question",
           "Answer"),
    "es": ("Contesta la pregunta con el texto, lo más brevemente posible.", "Texto", "Pregunta",
           "Respuesta"),
    "fr": ("Réponds à la question d'après le texte, le plus brièvement possible.", "Texte",
           "Question", "Réponse"),
    "hi": ("पाठ से प्रश्न का उत्तर कम से कम शब्दों में दो।", "पाठ", "प्रश्न", "उत्तर"),
    "ru": ("Ответь на вопрос по тексту как можно короче.", "Текст", "Вопрос", "Ответ"),
    "th": ("ตอบคำถามจากข้อความให้สั้นที่สุด", "ข้อความ", "คำถาม", "คำตอบ"),
    "tr": ("Soruyu metne göre olabildiğince kısa yanıtla.", "Metin", "Soru", "Yanıt"),
    "vi": ("Hãy trả lời câu hỏi dựa vào văn bản, càng ngắn càng tốt.", "Văn bản", "Câu hỏi",
           "Trả lời"),
    "zh": ("请根据文本用最少的字回答问题。", "文本", "问题", "回答"),
}  # fmt: skip
QA_TEMPLATES = {
    language: f"{ask}\n{text}: {{context}}\n{question}: {{question}}\n{answer}:"
    for language, (ask, text, question, answer) in _PARTS.items()
}
"""Language -> a template in it, in our own words."""


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text


def _flat(answers: Any) -> Any:
    """Answers without SQuAD's nesting."""
    return answers.get("text") if isinstance(answers, Mapping) else answers


_Words = Annotated[Text, AfterValidator(_not_blank)]


class Question(Record):
    """One example.

    Attributes:
        id: the same in every language.
        context: a text that holds the answer.
        question: the question.
        answers: right answers, at least one; the first is the one whose probability is measured.
    """

    id: Id
    context: _Words
    question: _Words
    answers: Annotated[
        tuple[Annotated[_Words, AfterValidator(str.strip)], ...],
        Field(strict=False, min_length=1),
        BeforeValidator(_flat),
        expected('["...", ...] or {"text": ["...", ...]}'),
    ]

    @property
    def context_digest(self) -> str:
        """A short digest of the context, without spaces at its ends."""
        return hashlib.sha256(self.context.strip().encode()).hexdigest()[:16]

    def prompt(self, template: str = QA_TEMPLATE) -> str:
        """The text that the answer continues."""
        return template.format(context=self.context, question=self.question)

    def with_answer(self, template: str = QA_TEMPLATE) -> str:
        """The prompt and its first answer, a space between them unless the prompt ends in one."""
        prompt = self.prompt(template)
        return prompt + ("" if prompt[-1:].isspace() else " ") + self.answers[0]


@dataclass(frozen=True)
class Questions:
    """Aligned examples: ``examples[a][n].id == examples[b][n].id``.

    Attributes:
        examples: language -> examples in the order that `seed` fixes.
        source: where they came from, for provenance.
        seed: of the order.
        left_out: ids that some language lacks.
    """

    examples: dict[str, tuple[Question, ...]]
    source: str
    seed: int
    left_out: int = 0

    def __repr__(self) -> str:
        return f"Questions({len(self.ids)} in {', '.join(self.examples)}, {self.source!r:.80})"

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids, in order."""
        return tuple(question.id for question in next(iter(self.examples.values())))

    def front(self, docs: int | None) -> Questions:
        """The first `docs` examples of every language (None: all)."""
        return self.only(range(len(self.ids))[:docs])

    def only(self, indices: Iterable[int]) -> Questions:
        """The examples with these indices, in this order."""
        chosen = list(indices)
        examples = {name: tuple(of[i] for i in chosen) for name, of in self.examples.items()}
        return replace(self, examples=examples)


def read_questions(
    source: str | Path | Mapping[str, Sequence[Mapping[str, Any]]] | Questions,
    *,
    languages: str | Iterable[str] | None = None,
    seed: int = 0,
) -> Questions:
    """Read aligned questions a language.

    Args:
        source: a folder of ``<language>.jsonl``, a line ``{"context", "question",
            "answers": [...]}``, also with SQuAD's ``"answers": {"text": [...]}``; or a mapping
            language -> such records; or `Questions`. Questions with the same ``"id"`` in different
            languages are the same one; without ids, the n-th of each language are.
        languages: which languages, in which order; all by default.
        seed: fixes the order of examples.

    Raises:
        InputError: no such folder or language, a line that cannot be used or repeats an id (with
            file and line), no id that all languages have, or a seed out of range.

    Example:
        >>> one = {"id": 7, "context": "Ann has tea.", "question": "What?", "answers": ["tea"]}
        >>> read_questions({"en": [one]}).examples["en"][0].with_answer()
        'Ann has tea.\\nQ: What?\\nA: tea'
    """
    seed, wanted = check_seed(seed), asked_languages(languages)
    name, present, read = _opened(source)
    found = {x: read(x) for x in languages_in(name, "questions", present, wanted)}
    everywhere = set.intersection(*map(set, found.values()))
    left_out = len(set.union(*map(set, found.values()))) - len(everywhere)
    if not everywhere:
        counts = ", ".join(f"{language} {len(of)}" for language, of in found.items())
        raise InputError(f"no id in {name} that all languages have; questions found: {counts}")
    if left_out:
        logger.warning("%d questions left out, which not every language has", left_out)
    order = sorted(everywhere, key=lambda id: hashlib.sha256(f"{seed}\0{id}".encode()).hexdigest())
    examples = {language: tuple(of[id] for id in order) for language, of in found.items()}
    before = source.left_out if isinstance(source, Questions) else 0
    return Questions(examples, name, seed, left_out + before)


def _opened(
    source: str | Path | Mapping[str, Sequence[Mapping[str, Any]]] | Questions,
) -> tuple[str, list[str], Callable[[str], dict[str, Question]]]:
    """The source's name, its languages, and a function that reads one of them, id -> question."""
    if isinstance(source, Questions):
        held = source.examples
        return source.source, [*held], lambda language: {q.id: q for q in held[language]}
    if isinstance(source, Mapping):
        given = source
        return (
            "questions given in Python",
            [*given],
            lambda language: Question.by_id(
                (f"{language}, question {n}", record)
                for n, record in enumerate(given[language], start=1)
            ),
        )
    folder = Path(source)
    if not str(source) or not folder.is_dir():
        raise InputError(f"no folder {source}; questions are a folder of <language>.jsonl")
    present = [path.stem for path in language_files(folder, suffixes=(".jsonl",))]
    return (
        str(source),
        present,
        lambda name: Question.by_id(json_lines(folder / f"{name}.jsonl", MAX_LINE)),
    )


def check_template(template: str) -> str:
    """The template; refuses one without both fields, or with any other."""
    try:
        parsed = [parts for parts in Formatter().parse(template) if parts[1] is not None]
    except ValueError:
        parsed = []
    # {context:100} would pad, {context!x} raise: nothing may follow a field's name.
    plain = all(not spec and conversion is None for _, _, spec, conversion in parsed)
    if not plain or {field for _, field, _, _ in parsed} != {"context", "question"}:
        raise InputError(
            f"template {template!r:.80} asked for; it needs the fields {{context}} and "
            "{question}, with nothing else in their braces, and no other"
        )
    return template


def template_in(template: str, language: str) -> str:
    """The template, or for ``language`` that of `QA_TEMPLATES`; refuses an unusable one."""
    if template != "language":
        return check_template(template)
    if language not in QA_TEMPLATES:
        raise InputError(
            f"no template in language {language}; there are {', '.join(QA_TEMPLATES)}; give a "
            "template of your own"
        )
    return QA_TEMPLATES[language]
