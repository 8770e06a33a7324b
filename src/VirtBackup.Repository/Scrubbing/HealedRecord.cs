using VirtBackup.Core;
using VirtBackup.Format.Records;

namespace VirtBackup.Repository.Scrubbing;

/// <summary>A record that had no sound copy, and has one again.</summary>
/// <param name="Kind">A chunk or a map node.</param>
/// <param name="Id">Its id.</param>
/// <param name="Scope">Empty for a map node.</param>
public readonly record struct HealedRecord(RecordKind Kind, Id32 Id, Id16 Scope);
