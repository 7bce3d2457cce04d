#include "nouns/json.hpp"

#include <cmath>
#include <cstring>
#include <locale>
#include <sstream>
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

  char here() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void space() {
    while (here() == ' ' || here() == '\t' || here() == '\r' || here() == '\n') ++at_;
  }

  char peek() {
    space();
    if (at_ >= text_.size()) fail("it ends too early");
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
      object(made, depth);
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

  void object(Json& made, int depth) {
    made.kind_ = Json::Kind::object;
    ++at_;
    for (bool first = true; peek() != '}'; first = false) {
      if (!first) expect(',');
      if (peek() != '"') fail("expected a key");
      const std::string key = text();
      if (made.object_.count(key)) fail("the key '" + key + "' stands twice in one object");
      expect(':');
      Json found = value(made.where_.empty() ? key : made.where_ + "." + key, depth + 1);
      made.object_.emplace(key, std::move(found));
    }
    ++at_;
  }

  void digits() {
    if (here() < '0' || here() > '9') fail("expected a value");
    while (here() >= '0' && here() <= '9') ++at_;
  }

  void number(Json& made) {
    const size_t from = at_;
    made.kind_ = Json::Kind::number;
    made.whole_ = true;
    if (here() == '-') ++at_;
    if (here() == '0' && at_ + 1 < text_.size() && text_[at_ + 1] >= '0' && text_[at_ + 1] <= '9')
      fail("a number begins with 0");
    digits();
    if (here() == '.') ++at_, made.whole_ = false, digits();
    if (here() == 'e' || here() == 'E') {
      ++at_, made.whole_ = false;
      if (here() == '-' || here() == '+') ++at_;
      digits();
    }
    // Not strtod, which reads by the locale of the program; from_chars lacks double in some libraries of C++17.
    std::istringstream in(text_.substr(from, at_ - from));
    in.imbue(std::locale::classic());
    if (!(in >> made.number_) || !std::isfinite(made.number_)) fail("expected a number that a double holds");
  }

  std::string text() {
    std::string found;
    ++at_;
    while (true) {
      if (at_ >= text_.size()) fail("a string does not end");
      const unsigned char c = static_cast<unsigned char>(text_[at_]);
      if (c == '"') break;
      if (c < 0x20) fail("a control character in a string");
      if (c == '\\') {
        escape(found);
      } else if (c < 0x80) {
        found += text_[at_++];
      } else {
        sequence(found);
      }
    }
    ++at_;
    return found;
  }

  // One character of UTF-8 beyond ASCII: neither overlong, nor a surrogate, nor beyond U+10FFFF.
  void sequence(std::string& out) {
    const auto byte = [&](size_t i) { return at_ + i < text_.size() ? static_cast<unsigned char>(text_[at_ + i]) : 0u; };
    const unsigned lead = byte(0), next = byte(1);
    const size_t size = lead >= 0xc2 && lead < 0xe0 ? 2 : lead >= 0xe0 && lead < 0xf0 ? 3 : lead >= 0xf0 && lead < 0xf5 ? 4 : 0;
    bool good = size > 0 && !(lead == 0xe0 && next < 0xa0) && !(lead == 0xed && next >= 0xa0) &&
                !(lead == 0xf0 && next < 0x90) && !(lead == 0xf4 && next >= 0x90);
    for (size_t i = 1; i < size; ++i) good = good && byte(i) >> 6 == 2;
    if (!good) fail("a byte that is no UTF-8");
    out.append(text_, at_, size);
    at_ += size;
  }

  void escape(std::string& out) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    ++at_;
    const char c = here();
    if (c == 'u') {
      ++at_;
      unicode(out);
    } else if (const char* place = c ? std::strchr(from, c) : nullptr) {
      out += to[place - from];
      ++at_;
    } else {
      fail("unknown escape");
    }
  }

  unsigned four() {
    unsigned code = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char c = here();
      const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
      if (digit < 0) fail("unknown escape");
      code = code << 4 | static_cast<unsigned>(digit);
    }
    return code;
  }

  void unicode(std::string& out) {
    unsigned code = four();
    if (code >= 0xd800 && code < 0xdc00 && word("\\u")) {
      const unsigned low = four();
      if (low < 0xdc00 || low >= 0xe000) fail("half a surrogate pair");
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xd800 && code < 0xe000) {
      fail("half a surrogate pair");
    }
    const auto put = [&](unsigned byte) { out += static_cast<char>(byte); };
    if (code < 0x80) return put(code);
    if (code < 0x800) {
      put(0xc0 | code >> 6);
    } else if (code < 0x10000) {
      put(0xe0 | code >> 12), put(0x80 | (code >> 6 & 0x3f));
    } else {
      put(0xf0 | code >> 18), put(0x80 | (code >> 12 & 0x3f)), put(0x80 | (code >> 6 & 0x3f));
    }
    put(0x80 | (code & 0x3f));
  }

  std::string text_;
  size_t at_ = 0;
};

Json Json::parse(const char* text, size_t size) { return JsonParser(text, size).run(); }

void Json::refuse(const std::string& wanted) const {
  throw std::invalid_argument("the field '" + where_ + "' is no " + wanted);
}

bool Json::has(const std::string& key) const { return object().count(key) > 0; }

const Json& Json::at(const std::string& key) const {
  const auto found = object().find(key);
  if (found == object_.end())
    throw std::invalid_argument("there is no field '" + (where_.empty() ? key : where_ + "." + key) + "'");
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
  if (!whole_ || x < static_cast<double>(low) || x > static_cast<double>(high))
    refuse("whole number of " + std::to_string(low) + " to " + std::to_string(high));
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
