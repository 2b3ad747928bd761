// Options of networks and their training as the JSON texts of a checkpoint's metadata.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "engine/io/safetensors.h"
#include "models/sudoku/trainer.h"

namespace stillpoint::sudoku {

// Of the names of a network's tensors in a file.
inline constexpr const char* kModel = "model.";

nlohmann::ordered_json to_json(const NetworkOptions& options);
nlohmann::ordered_json to_json(const EquilibriumOptions& options);
nlohmann::ordered_json to_json(const TrainOptions& options);

// The text of this metadata. Throws FormatError if there is none.
const std::string& text(const io::Safetensors& file, const char* key);

// Both throw FormatError or what nlohmann::json throws. What older files do not have gets its
// default.
NetworkOptions net_options(const io::Safetensors& file);
TrainOptions train_options(const nlohmann::ordered_json& json, const NetworkOptions& net);

}  // namespace stillpoint::sudoku
