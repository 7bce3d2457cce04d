#include "engine/json.hpp"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

namespace sparseflow {

class JsonParser {
 public:
  JsonParser(const char* text, size_t size) : text_(text, size) {}

  Json run() {
    Json found = value("", 0);
    space();
    if (at_ != text_.size()) fail("something behind the end");
    return found;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw std::invalid_argument("JSON, byte " + std::to_string(at_) + ": " + what);
  }

  void space() {
    while (at_ < text_.size() && std::strchr(" \t\r\n", text_[at_]) != nullptr && text_[at_] != '\0') ++at_;
  }

  char peek() {
    space();
    if (at_ == text_.size()) fail("it ends too early");
    return text_[at_];
  }

  void expect(char c) {
    if (peek() != c) fail(std::string("expected '") + c + "'");
    ++at_;
  }

  bool word(const char* w) {
    const size_t n = std::strlen(w);
    if (text_.compare(at_, n, w) != 0) return false;
    at_ += n;
    return true;
  }

  Json value(const std::string& where, int depth) {
    if (depth > 64) fail("nested too deep");
    Json made;
    made.where_ = where;
    const char c = peek();
    if (c == '{') {
      made.kind_ = Json::Kind::object;
      ++at_;
      for (bool first = true; peek() != '}'; first = false) {
        if (!first) expect(',');
        if (peek() != '"') fail("expected a key");
        const std::string key = text();
        expect(':');
        made.object_[key] = value(where + "." + key, depth + 1);
      }
      ++at_;
    } else if (c == '[') {
      made.kind_ = Json::Kind::array;
      ++at_;
      for (bool first = true; peek() != ']'; first = false) {
        if (!first) expect(',');
        made.array_.push_back(value(where + "[" + std::to_string(made.array_.size()) + "]", depth + 1));
      }
      ++at_;
    } else if (c == '"') {
      made.kind_ = Json::Kind::string;
      made.string_ = text();
    } else if (word("true")) {
      made.kind_ = Json::Kind::boolean;
      made.number_ = 1.0;
    } else if (word("false")) {
      made.kind_ = Json::Kind::boolean;
    } else if (!word("null")) {
      number(made);
    }
    return made;
  }

  void number(Json& made) {
    const char* from = text_.c_str() + at_;
    char* end = nullptr;
    made.kind_ = Json::Kind::number;
    if (*from != '-' && (*from < '0' || *from > '9')) fail("expected a value");
    made.number_ = std::strtod(from, &end);
    if (end == from || !std::isfinite(made.number_)) fail("expected a finite number");
    at_ += static_cast<size_t>(end - from);
  }

  std::string text() {
    std::string found;
    for (++at_; at_ < text_.size() && text_[at_] != '"'; ++at_) {
      if (text_[at_] != '\\') {
        found += text_[at_];
        continue;
      }
      if (++at_ == text_.size()) break;
      static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
      if (text_[at_] == 'u') {
        escape(found);
      } else if (const char* place = std::strchr(from, text_[at_])) {
        found += to[place - from];
      } else {
        fail("unknown escape");
      }
    }
    if (at_ >= text_.size()) fail("a string does not end");
    ++at_;
    return found;
  }

  void escape(std::string& out) {
    if (at_ + 4 >= text_.size()) fail("unknown escape");
    const unsigned code = static_cast<unsigned>(std::strtoul(text_.substr(at_ + 1, 4).c_str(), nullptr, 16));
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else {  // names are the only texts here, and are compared, not shown: a surrogate stays as it is
      if (code >= 0x800) out += static_cast<char>(0xe0 | (code >> 12));
      out += static_cast<char>(code >= 0x800 ? 0x80 | ((code >> 6) & 0x3f) : 0xc0 | (code >> 6));
      out += static_cast<char>(0x80 | (code & 0x3f));
    }
    at_ += 4;
  }

  std::string text_;
  size_t at_ = 0;
};

Json Json::parse(const char* text, size_t size) { return JsonParser(text, size).run(); }

void Json::refuse(const char* wanted) const {
  throw std::invalid_argument("the plan's field '" + where_ + "' is no " + wanted);
}

bool Json::has(const std::string& key) const { return object().count(key) > 0; }

const Json& Json::at(const std::string& key) const {
  const auto found = object().find(key);
  if (found == object_.end()) throw std::invalid_argument("the plan has no field '" + where_ + "." + key + "'");
  return found->second;
}

bool Json::boolean() const {
  if (kind_ != Kind::boolean) refuse("boolean");
  return number_ != 0.0;
}

double Json::number() const {
  if (kind_ != Kind::number) refuse("number");
  return number_;
}

int64_t Json::integer(int64_t low, int64_t high) const {
  const double x = number();
  if (x != std::floor(x) || x < static_cast<double>(low) || x > static_cast<double>(high)) {
    throw std::invalid_argument("the plan's field '" + where_ + "' is no whole number of " + std::to_string(low) +
                                " to " + std::to_string(high));
  }
  return static_cast<int64_t>(x);
}

const std::string& Json::string() const {
  if (kind_ != Kind::string) refuse("text");
  return string_;
}

const std::vector<Json>& Json::array() const {
  if (kind_ != Kind::array) refuse("list");
  return array_;
}

const std::map<std::string, Json>& Json::object() const {
  if (kind_ != Kind::object) refuse("object");
  return object_;
}

}  // namespace sparseflow
