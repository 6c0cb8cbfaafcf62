//! What a request has said so far.

use super::InputRules;
use super::role::{self, Role};
use crate::api::Api;
use crate::estimator::{Estimator, tokens};
use crate::json::{self, Event, Kind, Name, OneObject, Passage, Sink, Take};
use crate::usage::MOST;
use std::ops::Range;

/// What an attachment is known to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Media {
    Image,
    Sound,
    Text,
    Other,
}

/// An attachment that is being read.
#[derive(Debug, Clone, Copy)]
struct Attachment {
    media: Option<Media>,
    /// As encoded.
    bytes: Option<u64>,
    low_detail: bool,
}

#[derive(Debug)]
pub(super) struct Reading<E> {
    pub(super) api: Api,
    rules: InputRules,
    estimator: E,
    pub(super) model: Option<String>,
    /// How often it is named.
    pub(super) models: u32,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    /// The largest that any field states.
    pub(super) bound: Option<u64>,
    pub(super) answers: u64,
    pub(super) elsewhere: bool,
    pub(super) whole: OneObject,
    /// Thousandths of a token of text and JSON.
    text: u64,
    /// Tokens of everything else.
    other: u64,
    messages: u64,
    prompt_texts: u64,
    prompt_lists: u64,
    passage: Passage,
    attachment: Option<Attachment>,
}

impl<E: Estimator> Reading<E> {
    pub(super) fn new(api: Api, rules: InputRules, estimator: E) -> Self {
        Reading {
            api,
            rules,
            estimator,
            model: None,
            models: 0,
            stream: false,
            include_usage: false,
            bound: None,
            answers: 1,
            elsewhere: false,
            whole: OneObject::default(),
            text: 0,
            other: 0,
            messages: 0,
            prompt_texts: 0,
            prompt_lists: 0,
            passage: Passage::default(),
            attachment: None,
        }
    }

    pub(super) fn input(&self) -> u64 {
        let conversation = match self.api {
            Api::Completions | Api::Embeddings => 0,
            _ => self.messages.saturating_mul(self.rules.per_message).saturating_add(self.rules.per_request),
        };
        tokens(self.text).saturating_add(self.other).saturating_add(conversation).min(MOST)
    }

    /// How many prompts the request has; each is answered for itself.
    pub(super) fn prompts(&self) -> u64 {
        // One prompt may be a list of tokens, several are a list of texts or of such lists.
        self.prompt_texts.max(self.prompt_lists.saturating_sub(1)).max(1)
    }

    fn add(&mut self, tokens: u64) {
        self.other = self.other.saturating_add(tokens);
    }

    fn attach(&mut self, attachment: Attachment) {
        let rules = self.rules;
        match (attachment.media, attachment.bytes) {
            (Some(Media::Image), _) if attachment.low_detail => self.add(rules.low_detail_image),
            (Some(Media::Image), _) | (_, None) => self.add(rules.image),
            (Some(Media::Text), Some(bytes)) => self.text = self.text.saturating_add(json::millitokens(bytes)),
            (Some(Media::Sound), Some(bytes)) => self.add(decoded(bytes).div_ceil(rules.audio_bytes_per_token.max(1))),
            (Some(Media::Other) | None, Some(bytes)) => {
                self.add(decoded(bytes).div_ceil(rules.file_bytes_per_token.max(1)));
            }
        }
    }

    fn word(&mut self, role: Role, word: &str) {
        match (role, &mut self.attachment) {
            (Role::Model, _) => self.model = Some(word.to_owned()),
            (Role::Detail, Some(attachment)) => attachment.low_detail = word == "low",
            (Role::Media, Some(attachment)) => {
                attachment.media = Some(match word.split('/').next() {
                    Some("image") => Media::Image,
                    Some("audio" | "video") => Media::Sound,
                    Some("text") => Media::Text,
                    _ => Media::Other,
                });
            }
            _ => {}
        }
    }

    /// A string that is, or belongs to, an attachment.
    fn passed(&mut self, role: Role, name: Option<&Name>, bytes: u64) {
        match (role, &mut self.attachment) {
            (Role::Bytes, Some(attachment)) => attachment.bytes = Some(bytes),
            (Role::Attachment, Some(attachment)) if name == Some(&Name::FileData) => attachment.bytes = Some(bytes),
            (Role::Attachment, None) => {
                let media = media(name);
                // An image is given by its address, a file by its bytes.
                let bytes = (media != Some(Media::Image)).then_some(bytes);
                self.attach(Attachment { media, bytes, low_detail: false });
            }
            (Role::Reference, None) => self.add(self.rules.image),
            (Role::Json, _) => self.text = self.text.saturating_add(json::millitokens(bytes)),
            _ => {}
        }
    }
}

/// What the name of an attachment says that it is.
fn media(name: Option<&Name>) -> Option<Media> {
    match name {
        Some(Name::ImageUrl) => Some(Media::Image),
        Some(Name::InputAudio) => Some(Media::Sound),
        Some(Name::File) => Some(Media::Other),
        _ => None,
    }
}

/// The bytes that so many characters of base64 encode.
fn decoded(bytes: u64) -> u64 {
    bytes / 4 * 3
}

impl<E: Estimator> Sink for Reading<E> {
    fn take(&mut self, path: &[Name]) -> Take {
        if self.passage.is_open() {
            return Take::Pass;
        }
        match role::of(self.api, path) {
            Role::Prompts => {
                self.prompt_texts = self.prompt_texts.saturating_add(1);
                Take::Text
            }
            Role::Text | Role::Conversation => Take::Text,
            Role::Model | Role::Media | Role::Detail => Take::Word,
            _ => Take::Pass,
        }
    }

    fn event(&mut self, path: &[Name], event: Event<'_>, span: Range<u64>) {
        if let Event::Text(text) = event {
            self.text = self.text.saturating_add(self.estimator.millitokens(text));
            return;
        }
        self.whole.follow(path, &event);
        if path.is_empty() {
            return;
        }
        let role = if self.passage.is_open() { Role::Nothing } else { role::of(self.api, path) };
        if let Some(bytes) = self.passage.follow(role == Role::Json, &event, &span) {
            self.text = self.text.saturating_add(json::millitokens(bytes));
        }
        if role == Role::Model && !matches!(event, Event::Close(_)) {
            self.models = self.models.saturating_add(1);
        }
        match (role, event) {
            (Role::Stream, Event::Bool(value)) => self.stream = value,
            (Role::IncludeUsage, Event::Bool(value)) => self.include_usage = value,
            // Which of several fields counts is the provider's to know: the largest is on the strict side.
            // So is a number that is not written as a whole one: some providers take `1e4` for what it is.
            (Role::Bound, Event::Number(bound)) => self.bound = self.bound.max(bound.ceiling),
            (Role::Answers, Event::Number(answers)) => self.answers = self.answers.max(answers.ceiling.unwrap_or(1)),
            (Role::Prompts, Event::Number(_)) => self.add(1),
            (Role::Prompts, Event::Open(Kind::Array)) => self.prompt_lists = self.prompt_lists.saturating_add(1),
            (Role::Conversation, Event::Open(Kind::Object)) => self.messages = self.messages.saturating_add(1),
            (Role::Elsewhere, Event::Open(Kind::Object) | Event::Passed(_)) => self.elsewhere = true,
            (Role::Attachment, Event::Open(Kind::Object)) => {
                self.attachment = Some(Attachment { media: media(path.last()), bytes: None, low_detail: false });
            }
            (Role::Attachment, Event::Close(Kind::Object)) => {
                if let Some(attachment) = self.attachment.take() {
                    self.attach(attachment);
                }
            }
            (role, Event::Passed(bytes)) => self.passed(role, path.last(), bytes),
            (role, Event::Word(Some(word))) => self.word(role, word),
            _ => {}
        }
    }
}
