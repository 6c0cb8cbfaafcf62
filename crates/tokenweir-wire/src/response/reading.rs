//! What a response has said so far, document by document.

use super::role::{self, Role};
use crate::api::Api;
use crate::estimator::Estimator;
use crate::json::{self, Event, Kind, Name, Passage, Sink, Take};
use crate::usage::{Figure, Figures, TokenUsage, sum};
use std::ops::Range;

/// What one document says: an event's data, a body, or an element of a list of them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Document {
    /// Thousandths of a token of text that the model produced.
    text: u64,
    figures: Figures,
    /// What its type says its text is: not text, but encoded sound.
    is_sound: bool,
    /// It says that the answer is over.
    stops: bool,
    passage: Passage,
    is_audio: bool,
    count: Option<u64>,
}

impl Document {
    /// Its text, in thousandths of a token.
    fn produced(&self) -> u64 {
        if self.is_sound { 0 } else { self.text }
    }
}

/// What all documents so far say.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) figures: Figures,
    /// Thousandths of a token of text that no reported figure includes.
    pub(super) since: u64,
    /// The answer has ended, by its own word.
    pub(super) complete: bool,
    pub(super) failed: bool,
    /// The provider goes on with it when nobody reads it.
    pub(super) background: bool,
    /// Something has come that only this API's responses have.
    pub(super) recognised: bool,
}

#[derive(Debug)]
pub(super) struct Reading<E> {
    pub(super) api: Api,
    pub(super) estimator: E,
    pub(super) deltas: bool,
    pub(super) totals: Totals,
    pub(super) document: Document,
}

impl<E: Estimator> Reading<E> {
    pub(super) fn new(api: Api, estimator: E) -> Self {
        Reading { api, estimator, deltas: false, totals: Totals::default(), document: Document::default() }
    }

    /// The document is over, by its own end.
    fn document_done(&mut self) {
        let document = std::mem::take(&mut self.document);
        self.totals.figures.merge(&document.figures, self.deltas);
        if document.figures.get(Figure::Output).is_some() {
            // The figure includes all text up to here.
            self.totals.since = 0;
        } else {
            self.totals.since = self.totals.since.saturating_add(document.produced());
        }
        // Where there are several answers, one of them may end before the others.
        self.totals.complete = document.stops || self.totals.complete && document.produced() == 0;
    }

    /// The document is over without having ended: only its text counts. One that is not JSON, of so many bytes, counts
    /// as if all of it were text.
    pub(super) fn document_lost(&mut self, bad: Option<u64>) {
        self.totals.since = self.text_with_open(bad);
        self.totals.recognised |= bad.is_some();
        self.totals.complete &= self.document.produced() == 0;
        self.document = Document::default();
    }

    /// Text that no figure includes, that of a document without an end included.
    pub(super) fn text_with_open(&self, bad: Option<u64>) -> u64 {
        let produced = self.document.produced().max(bad.map_or(0, json::millitokens));
        self.totals.since.saturating_add(produced)
    }

    fn word(&mut self, role: Role, word: &str) {
        match role {
            Role::Stop => self.document.stops = true,
            Role::Type => match word {
                "message_stop" | "response.completed" | "response.incomplete" | "completed" | "incomplete" => {
                    self.document.stops = true;
                }
                "response.failed" | "failed" | "error" => self.totals.failed = true,
                "response.audio.delta" | "response.output_audio.delta" => self.document.is_sound = true,
                _ => {}
            },
            Role::Modality => self.document.is_audio = word == "AUDIO",
            _ => {}
        }
    }
}

impl<E: Estimator> Sink for Reading<E> {
    fn take(&mut self, path: &[Name]) -> Take {
        if self.document.passage.is_open() {
            return Take::Pass;
        }
        match role::of(self.api, path) {
            Role::Text => Take::Text,
            Role::Type | Role::Stop | Role::Modality => Take::Word,
            _ => Take::Pass,
        }
    }

    fn event(&mut self, path: &[Name], event: Event<'_>, span: Range<u64>) {
        if event == Event::Document {
            return self.document_done();
        }
        if let Event::Text(text) = event {
            let tokens = self.estimator.millitokens(text);
            self.document.text = self.document.text.saturating_add(tokens);
            self.totals.recognised = true;
            return;
        }
        let role = if self.document.passage.is_open() { Role::Nothing } else { role::of(self.api, path) };
        if let Some(bytes) = self.document.passage.follow(role == Role::Json, &event, &span) {
            self.document.text = self.document.text.saturating_add(json::millitokens(bytes));
        }
        match (role, event) {
            (Role::Shape, Event::Open(_)) => self.totals.recognised = true,
            (Role::Error, Event::Open(Kind::Object)) => self.totals.failed = true,
            (Role::Background, Event::Bool(value)) => self.totals.background = value,
            (Role::Figure(figure), Event::Number(number)) => {
                self.totals.recognised = true;
                self.document.figures.set(figure, number.whole);
            }
            (Role::Count, Event::Number(number)) => self.document.count = number.whole,
            (Role::ByModality(figure), Event::Close(Kind::Object)) => {
                let count = self.document.count.take();
                if std::mem::take(&mut self.document.is_audio) {
                    self.document.figures.set(figure, count);
                }
            }
            (role, Event::Word(Some(word))) => self.word(role, word),
            _ => {}
        }
    }
}

/// What was reported, in the one vocabulary. `output` only if the provider said so.
pub(super) fn usage(api: Api, figures: &Figures) -> TokenUsage {
    let get = |figure| figures.get(figure);
    let (input, output) = match api {
        // Anthropic reports the parts of the input side by side.
        Api::Messages => {
            let parts = [get(Figure::Input), get(Figure::CachedInput), get(Figure::CacheWrite)];
            (get(Figure::Input).and_then(|_| sum(&parts)), get(Figure::Output))
        }
        // Gemini has what tools brought and what the model thought beside the rest.
        Api::GenerateContent => (
            get(Figure::Input).and_then(|_| sum(&[get(Figure::Input), get(Figure::ToolInput)])),
            get(Figure::Output).and_then(|_| sum(&[get(Figure::Output), get(Figure::Reasoning)])),
        ),
        _ => (get(Figure::Input), get(Figure::Output)),
    };
    TokenUsage {
        input,
        cached_input: get(Figure::CachedInput),
        cache_write: get(Figure::CacheWrite),
        audio_input: get(Figure::AudioInput),
        output,
        reasoning: get(Figure::Reasoning),
        audio_output: get(Figure::AudioOutput),
    }
}
