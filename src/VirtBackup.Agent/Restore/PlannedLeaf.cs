using VirtBackup.Format.Maps;

namespace VirtBackup.Agent.Restore;

/// <summary>A leaf whose chunks are to be fetched and written.</summary>
/// <param name="Offset">Of the leaf's first byte in the stream.</param>
/// <param name="Wanted">Which of its entries; null: all that are not zero.</param>
internal readonly record struct PlannedLeaf(long Offset, MapLeaf Leaf, bool[]? Wanted);
