#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace sparseflow {

// A JSON value. Reading a kind that it is not throws std::invalid_argument and names the key.
class Json {
 public:
  enum class Kind { null, boolean, number, string, array, object };

  static Json parse(const char* text, size_t size);

  bool is_null() const { return kind_ == Kind::null; }
  bool has(const std::string& key) const;
  const Json& at(const std::string& key) const;  // of an object
  bool boolean() const;
  double number() const;
  int64_t integer(int64_t low, int64_t high) const;
  const std::string& string() const;
  const std::vector<Json>& array() const;
  const std::map<std::string, Json>& object() const;

 private:
  friend class JsonParser;
  [[noreturn]] void refuse(const char* wanted) const;

  Kind kind_ = Kind::null;
  double number_ = 0.0;  // also a boolean
  std::string string_, where_;
  std::vector<Json> array_;
  std::map<std::string, Json> object_;
};

}  // namespace sparseflow
