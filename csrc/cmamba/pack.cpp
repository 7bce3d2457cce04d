#include "cmamba/pack.hpp"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <stdexcept>

#include "nouns/json.hpp"
#include "nouns/sha256.hpp"

namespace sparseflow {

namespace {

namespace fs = std::filesystem;

const char *const kManifest = "manifest.json", *const kWeights = "weights.bin", *const kGolden = "golden.bin";
const char *const kKind = "sparseflow-fpga-pack", *const kArithmetic = "fixed_point/1", *const kPrefix = "golden.";
constexpr int64_t kAlignment = 64, kTile = 8, kMostBytes = int64_t{1} << 40;

[[noreturn]] void refuse(const std::string& what) {
  throw std::invalid_argument(what + "; export the network again");
}

std::string marked(const std::string& name) { return "'" + name + "'"; }

void only(const Json& object, const std::set<std::string>& known, const std::string& of) {
  for (const std::string& name : known)
    if (!object.has(name)) refuse(of + " lacks " + marked(name));
  for (const auto& [name, value] : object.object())
    if (!known.count(name)) refuse(of + " has a field " + marked(name) + " that nothing reads");
}

bool text(const Json& found, const std::string& expected) {
  return found.kind() == Json::Kind::string && found.string() == expected;
}

bool whole(const Json& found, int64_t expected) {
  return found.kind() == Json::Kind::number && found.number() == static_cast<double>(expected);
}

struct Entry {
  std::string name, file, type, hash;
  std::vector<int64_t> shape;
  bool tiled;
  int64_t offset, bytes;

  int64_t count() const {
    int64_t n = 1;
    for (const int64_t size : shape) n *= size;
    return n;
  }
};

int64_t bytes_of(const std::string& type) {
  static const std::map<std::string, int64_t> sizes{{"int8", 1},   {"uint8", 1}, {"int16", 2},
                                                    {"uint16", 2}, {"int32", 4}, {"int64", 8}};
  const auto found = sizes.find(type);
  return found == sizes.end() ? 0 : found->second;
}

Entry read_entry(const Json& json, const std::string& name) {
  const std::string of = "array " + marked(name);
  only(json, {"name", "file", "dtype", "shape", "layout", "scale", "zero", "offset", "bytes", "sha256"}, of);
  try {
    Entry e{name, json.at("file").string(), json.at("dtype").string(), json.at("sha256").string(), {}, false, 0, 0};
    if (e.file != kWeights && e.file != kGolden) refuse(of + " is said to be in " + marked(e.file));
    if (!bytes_of(e.type)) refuse(of + " is of type " + marked(e.type) + ", which no pack has");
    for (const Json& n : json.at("shape").array()) e.shape.push_back(n.integer(0, 2147483647));
    const std::string& layout = json.at("layout").string();
    e.tiled = layout == "tiles_8x8";
    if (layout != "rows" && !(e.tiled && e.shape.size() == 2 && e.type == "int8"))
      refuse(of + " has the layout " + marked(layout));
    if ((e.file == kGolden) != (name.rfind(kPrefix, 0) == 0)) refuse(of + " does not belong into " + e.file);
    int64_t expected = bytes_of(e.type);
    for (const int64_t n : e.shape) {
      expected *= e.tiled ? (n + kTile - 1) / kTile * kTile : n;
      if (expected > kMostBytes) refuse(of + " is too large");
    }
    e.bytes = json.at("bytes").integer(0, kMostBytes);
    if (e.bytes != expected) refuse(of + " has " + std::to_string(e.bytes) + " bytes; it needs " + std::to_string(expected));
    e.offset = json.at("offset").integer(0, kMostBytes);
    return e;
  } catch (const std::invalid_argument& error) {
    if (!std::strncmp(error.what(), of.c_str(), of.size())) throw;
    refuse(of + ": " + error.what());
  }
}

std::vector<Entry> read_entries(const Json& head) {
  std::vector<Entry> found;
  std::set<std::string> names, seen;
  for (const Json& name : head.at("names").array()) names.insert(name.string());
  for (const Json& json : head.at("arrays").array()) {
    if (json.kind() != Json::Kind::object || !json.has("name") || json.at("name").kind() != Json::Kind::string)
      refuse("an array behind " + marked(found.empty() ? "the start" : found.back().name) + " has no name");
    const std::string& name = json.at("name").string();
    if (!seen.insert(name).second) refuse("array " + marked(name) + " stands twice in the manifest");
    if (!names.count(name)) refuse("array " + marked(name) + " is not among the names of the pack");
    found.push_back(read_entry(json, name));
  }
  for (const Json& name : head.at("names").array())
    if (!seen.count(name.string())) refuse("array " + marked(name.string()) + " is missing in the manifest");
  return found;
}

// A specification says nothing that the integers do not, but damage in it is damage in the pack.
void check_tensor(const std::string& name, const Json& t) {
  const std::string of = "tensor " + marked(name) + " of the QSpec";
  only(t, {"bits", "scale", "signed", "offset", "rounding", "saturation"}, of);
  const auto positive = [&](const Json& scale) {
    if (!(scale.number() > 0)) refuse(of + " has a scale that is not positive");
  };
  try {
    t.at("bits").integer(2, 48), t.at("signed").boolean(), t.at("offset").number();
    if (t.at("scale").kind() == Json::Kind::array) {
      for (const Json& scale : t.at("scale").array()) positive(scale);
    } else {
      positive(t.at("scale"));
    }
    if (!text(t.at("rounding"), "nearest_even") || !t.at("saturation").boolean())
      refuse(of + " rounds or saturates as " + kArithmetic + " does not");
  } catch (const std::invalid_argument& error) {
    if (!std::strncmp(error.what(), of.c_str(), of.size())) throw;
    refuse(of + ": " + error.what());
  }
}

CMambaSizes read_sizes(const Json& qspec) {
  only(qspec, {"kind", "schema", "arithmetic", "model", "tensors", "note"}, "the QSpec");
  if (!text(qspec.at("kind"), "qspec") || !whole(qspec.at("schema"), 1) || !text(qspec.at("arithmetic"), kArithmetic))
    refuse(std::string("the QSpec is of another kind, schema or arithmetic than 1 and ") + kArithmetic);
  if (qspec.at("tensors").object().empty()) refuse("the QSpec names no tensor");
  for (const auto& [name, tensor] : qspec.at("tensors").object()) check_tensor(name, tensor);
  const Json& m = qspec.at("model");
  only(m, {"d_model", "n_layer", "seq_len", "d_state", "expand", "dt_rank", "d_conv", "pad_multiple", "conv_bias", "bias",
           "num_channels", "patch_len", "stride", "forecast_len", "reduction_ratio", "verbose", "variant", "norm_eps",
           "dropout", "head_dropout", "forecast_dropout"}, "the model of the QSpec");
  if (!text(m.at("variant"), "official")) refuse("the model is not of the published variant, which alone has integers");
  const auto count = [&](const char* name, int64_t largest) { return m.at(name).integer(1, largest); };
  CMambaSizes s{};
  s.official = true;
  s.series = count("num_channels", 65536), s.length = count("seq_len", 4096), s.forecast = count("forecast_len", 65536);
  s.patch = count("patch_len", 8192), s.stride = s.padding = count("stride", 4096);
  if (s.patch > s.length + s.padding) refuse("the model's patch_len is beyond its readings");
  s.patches = (s.length + s.padding - s.patch) / s.stride + 1;
  s.width = count("d_model", 32768), s.layers = count("n_layer", 1024), s.states = count("d_state", 512);
  const double inner = std::floor(m.at("expand").number() * static_cast<double>(s.width));
  if (!(inner >= 1 && inner <= 32768)) refuse("the model's expand leaves no width of 1 to 32768");
  s.inner = static_cast<int64_t>(inner);
  s.rank = count("dt_rank", 32768);
  s.hidden = s.series / count("reduction_ratio", INT32_MAX);
  return s;
}

// What the exporter noted of the readings, if anything.
void read_scaler(const Json& note, IntegerPack& pack) {
  if (!note.has("readings")) return;
  const Json& readings = note.at("readings");
  only(readings, {"columns", "mean", "std"}, "the note of the readings");
  for (const Json& name : readings.at("columns").array()) pack.columns.push_back(name.string());
  for (const Json& mean : readings.at("mean").array()) pack.mean.push_back(mean.number());
  for (const Json& deviation : readings.at("std").array()) {
    pack.deviation.push_back(deviation.number());
    if (!(pack.deviation.back() > 0)) refuse("the note of the readings has a deviation that is not above 0");
  }
  const size_t series = static_cast<size_t>(pack.sizes.series);
  if (pack.columns.size() != series || pack.mean.size() != series || pack.deviation.size() != series)
    refuse("the note of the readings has other than " + std::to_string(series) + " columns, means and deviations");
}

Json read_manifest(const char* data, size_t size) {
  Json head = Json::parse(data, size);
  if (head.kind() != Json::Kind::object || !head.has("kind") || !text(head.at("kind"), kKind))
    refuse(std::string("this is no manifest of a pack; its kind is not ") + marked(kKind));
  only(head, {"kind", "schema", "arithmetic", "qspec", "names", "arrays", "files"}, "it");
  if (!whole(head.at("schema"), 1) || !text(head.at("arithmetic"), kArithmetic))
    refuse(std::string("it has another schema or arithmetic than 1 and ") + marked(kArithmetic));
  static_cast<void>(head.at("files").object());
  return head;
}

std::string untile(const Entry& e, const std::string& tiles) {
  const int64_t rows = e.shape[0], columns = e.shape[1], across = (columns + kTile - 1) / kTile;
  std::string matrix(static_cast<size_t>(rows * columns), '\0');
  for (int64_t at = 0; at < e.bytes; ++at) {
    const int64_t tile = at / (kTile * kTile), within = at % (kTile * kTile);
    const int64_t r = tile / across * kTile + within / kTile, c = tile % across * kTile + within % kTile;
    const char value = tiles[static_cast<size_t>(at)];
    if (r < rows && c < columns) {
      matrix[static_cast<size_t>(r * columns + c)] = value;
    } else if (value) {
      refuse("array " + marked(e.name) + " has numbers beyond its edges");
    }
  }
  return matrix;
}

// The arrays of one file, each checked against its place, its hash and the zeros in front of it.
IntegerArrays read_arrays(const std::vector<Entry>& entries, const char* file, const char* data, size_t given) {
  IntegerArrays found;
  const int64_t size = static_cast<int64_t>(given);
  int64_t end = 0;
  for (const Entry& e : entries) {
    if (e.file != file) continue;
    const std::string of = "array " + marked(e.name);
    const int64_t start = (end + kAlignment - 1) / kAlignment * kAlignment;
    if (e.offset != start)
      refuse(of + " lies at byte " + std::to_string(e.offset) + " of " + file + "; expected " + std::to_string(start));
    if (start + e.bytes > size) refuse(std::string(file) + " ends before " + of + " does");
    for (int64_t i = end; i < start; ++i)
      if (data[i]) refuse(std::string(file) + " has bytes other than 0 in front of " + of);
    end = start + e.bytes;
    const std::string bytes(data + start, static_cast<size_t>(e.bytes));
    if (sha256(bytes.data(), bytes.size()) != e.hash) refuse(of + " has other bytes than were written");
    found[e.name] = {e.type, e.tiled ? untile(e, bytes) : bytes};
  }
  if (size != end) refuse(std::string(file) + " has " + std::to_string(size - end) + " bytes behind its last array");
  return found;
}

std::string contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string data{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file || file.bad()) refuse("cannot read " + path.string());
  return data;
}

// What the golden vectors hold of a tensor, from the smallest type that was enough.
std::vector<int32_t> golden(const IntegerArrays& arrays, const std::string& tensor, int64_t row) {
  const auto found = arrays.find(kPrefix + tensor);
  if (found == arrays.end()) refuse("array " + marked(kPrefix + tensor) + " is missing");
  const auto& [type, bytes] = found->second;
  const int64_t width = bytes_of(type), count = static_cast<int64_t>(bytes.size()) / width;
  if (count % row) refuse("array " + marked(kPrefix + tensor) + " holds no whole windows");
  std::vector<int32_t> values;
  for (int64_t i = 0; i < count; ++i) {
    uint64_t bits = 0;
    for (int64_t b = width - 1; b >= 0; --b) bits = bits << 8 | static_cast<uint8_t>(bytes[static_cast<size_t>(i * width + b)]);
    const int up = static_cast<int>(64 - 8 * width);
    const int64_t value = type[0] == 'u' ? static_cast<int64_t>(bits) : static_cast<int64_t>(bits << up) >> up;
    if (value != static_cast<int32_t>(value)) refuse("array " + marked(kPrefix + tensor) + " holds more than 32 bits");
    values.push_back(static_cast<int32_t>(value));
  }
  return values;
}

}  // namespace

IntegerPack IntegerPack::parse(const char* manifest, size_t manifest_size, const char* weights, size_t weights_size) {
  const Json head = read_manifest(manifest, manifest_size);
  IntegerPack pack;
  pack.arrays = read_arrays(read_entries(head), kWeights, weights, weights_size);
  pack.sizes = read_sizes(head.at("qspec"));
  read_scaler(head.at("qspec").at("note"), pack);
  return pack;
}

IntegerPack IntegerPack::read(const std::string& folder) {
  const fs::path place(folder);
  const std::string manifest = contents(place / kManifest), weights = contents(place / kWeights);
  const std::string vectors = contents(place / kGolden);
  const auto load = [&] {
    try {
      return read_manifest(manifest.data(), manifest.size());
    } catch (const std::invalid_argument& e) {
      throw std::invalid_argument((place / kManifest).string() + ": " + e.what());
    }
  };
  const Json head = load();
  const std::vector<Entry> entries = read_entries(head);
  IntegerPack pack;
  pack.arrays = read_arrays(entries, kWeights, weights.data(), weights.size());
  const IntegerArrays seen = read_arrays(entries, kGolden, vectors.data(), vectors.size());
  for (const auto& [name, hash] : head.at("files").object()) {
    const fs::path path(name);
    bool outside = path.has_root_path();
    for (const fs::path& part : path) outside = outside || part == "..";
    if (outside) refuse("the manifest names a file " + marked(name) + " outside the pack");
    const std::string data = contents(place / path);
    if (!text(hash, sha256(data.data(), data.size())))
      refuse((place / path).string() + " is not the file that was written");
  }
  pack.sizes = read_sizes(head.at("qspec"));
  read_scaler(head.at("qspec").at("note"), pack);
  const CMambaSizes& s = pack.sizes;
  pack.readings = golden(seen, "input", s.series * s.length);
  pack.forecasts = golden(seen, "restore", s.series * s.forecast);
  if (pack.readings.size() / static_cast<size_t>(s.series * s.length) !=
      pack.forecasts.size() / static_cast<size_t>(s.series * s.forecast))
    refuse("the golden vectors hold other windows than forecasts");
  return pack;
}

}  // namespace sparseflow
