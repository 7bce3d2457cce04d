#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace sparseflow {

// A JSON value (RFC 8259, strictly: UTF-8, no key twice, finite numbers, 64 levels). What is not JSON, and reading a
// kind that a value is not, throws std::invalid_argument, which names the byte or the field.
class Json {
 public:
  enum class Kind { null, boolean, number, string, array, object };

  static Json parse(const char* text, size_t size);

  Kind kind() const { return kind_; }
  bool is_null() const { return kind_ == Kind::null; }
  bool has(const std::string& key) const;
  const Json& at(const std::string& key) const;  // of an object
  bool boolean() const;
  double number() const;
  int64_t integer(int64_t low, int64_t high) const;  // written without point or exponent
  const std::string& string() const;
  const std::vector<Json>& array() const;
  const std::map<std::string, Json>& object() const;

 private:
  friend class JsonParser;
  [[noreturn]] void refuse(const std::string& wanted) const;

  Kind kind_ = Kind::null;
  bool whole_ = false;
  double number_ = 0.0;  // also a boolean
  std::string string_, where_;
  std::vector<Json> array_;
  std::map<std::string, Json> object_;
};

}  // namespace sparseflow
