using VirtBackup.Core;
using VirtBackup.Format.Records;
using VirtBackup.Proofs.Installation;

namespace VirtBackup.Proofs.Heal;

/// <summary>How bytes are lost.</summary>
internal enum WoundKind
{
    Flip,
    FlipHeader,
    ZeroSector,
    CutTail,
    DropPack,

    /// <summary>A byte behind the records of a pack: nothing that anybody needs.</summary>
    Footer,
}

/// <summary>Damages exactly so many records of one kind in the files of a repository, each in one of the ways in which disks do.</summary>
internal sealed class Wounds
{
    private const int SectorBytes = 512;
    private const int FootersMax = 2;

    private readonly Census _census;
    private readonly string _folder;
    private readonly Random _random;
    private readonly IReadOnlySet<Id32> _spared;
    private readonly List<(string Key, List<StoredRecord> Records)> _packs;
    private readonly HashSet<string> _hurt = [];

    private Wounds(Census census, string folder, RecordKind kind, IReadOnlySet<Id32> spared, Random random)
    {
        (_census, _folder, _spared, _random) = (census, folder, spared, random);
        _packs = [.. census.Packs.OrderBy(pack => pack.Key, StringComparer.Ordinal).Where(pack => pack.Value[0].Entry.Header.Kind == kind)
            .Select(pack => (pack.Key, pack.Value.OrderBy(record => record.Entry.Offset).ToList()))];
    }

    /// <summary>The damaged records.</summary>
    public Dictionary<Id32, RecordHeader> Records { get; } = [];

    /// <summary>Damaged packs.</summary>
    public int Packs => _hurt.Count;

    public Dictionary<WoundKind, int> Ways { get; } = [];

    /// <summary>Their headers and payloads, bytes.</summary>
    public long Bytes => Records.Values.Sum(header => (long)header.RecordLength);

    /// <param name="census">Of the repository.</param>
    /// <param name="folder">Its objects.</param>
    /// <param name="kind">Chunks or map nodes.</param>
    /// <param name="count">So many of them.</param>
    /// <param name="spared">These not.</param>
    /// <param name="random">Decides which, and how.</param>
    /// <param name="first">This one in any case.</param>
    public static Wounds Inflict(Census census, string folder, RecordKind kind, int count, IReadOnlySet<Id32> spared, Random random, Id32? first)
    {
        var wounds = new Wounds(census, folder, kind, spared, random);
        if (first is { } chosen)
        {
            var (key, records) = wounds._packs.Find(pack => pack.Records.Exists(record => record.Entry.Header.Id == chosen));
            wounds.Spoil(WoundKind.Flip, key, records.Find(record => record.Entry.Header.Id == chosen)!);
        }
        while (wounds.Records.Count < count)
        {
            var way = (WoundKind)random.Next(Enum.GetValues<WoundKind>().Length);
            if (wounds.TryInflict(way, count - wounds.Records.Count))
            {
                wounds.Ways[way] = wounds.Ways.GetValueOrDefault(way) + 1;
            }
        }
        return wounds;
    }

    private bool TryInflict(WoundKind way, int countMax)
    {
        var candidates = way == WoundKind.DropPack ? _packs.FindAll(pack => pack.Records.Count <= countMax) : _packs;
        var (key, records) = candidates.Count > 0 ? candidates[_random.Next(candidates.Count)] : _packs[0];
        switch (way)
        {
            case WoundKind.DropPack:
                if (!AreFree(records, countMax))
                {
                    return false;
                }
                File.Delete(PathOf(key));
                break;
            case WoundKind.CutTail:
                records = records[^_random.Next(1, records.Count + 1)..];
                if (!AreFree(records, countMax))
                {
                    return false;
                }
                using (var file = Open(key))
                {
                    file.SetLength(records[0].Entry.Offset + _random.Next(records[0].Entry.Header.RecordLength));
                }
                break;
            case WoundKind.Footer:
                if (_hurt.Contains(key) || Ways.GetValueOrDefault(way) == FootersMax)
                {
                    return false;
                }
                using (var file = Open(key))
                {
                    Flip(file, records[^1].Entry.Offset + records[^1].Entry.Header.RecordLength, file.Length);
                }
                records = [];
                break;
            default:
                records = [records[_random.Next(records.Count)]];
                if (!AreFree(records, countMax))
                {
                    return false;
                }
                Spoil(way, key, records[0]);
                return true;
        }
        Note(key, records);
        return true;
    }

    private void Note(string key, List<StoredRecord> records)
    {
        _hurt.Add(key);
        records.ForEach(record => Records.Add(record.Entry.Header.Id, record.Entry.Header));
    }

    private bool AreFree(List<StoredRecord> records, int countMax) =>
        records.Count <= countMax && records.TrueForAll(record => IsFree(record.Entry.Header));

    /// <summary>A record of which there is another copy would not be lost.</summary>
    private bool IsFree(RecordHeader header) =>
        !_spared.Contains(header.Id) && !Records.ContainsKey(header.Id) && _census.Find(header.Kind, header.Id, header.Scope).Count == 1;

    private void Spoil(WoundKind way, string key, StoredRecord record)
    {
        var entry = record.Entry;
        using var file = Open(key);
        var (payload, end) = (entry.Offset + RecordHeader.Size, entry.Offset + entry.Header.RecordLength);
        if (way != WoundKind.ZeroSector || !TryZero(file, payload, end))
        {
            Flip(file, way == WoundKind.FlipHeader ? entry.Offset : payload, way == WoundKind.FlipHeader ? payload : end);
        }
        Note(key, [record]);
    }

    /// <summary>One byte between two offsets becomes another one.</summary>
    private void Flip(FileStream file, long start, long end)
    {
        file.Position = _random.NextInt64(start, end);
        var now = file.ReadByte();
        file.Position--;
        file.WriteByte((byte)(now ^ _random.Next(1, 256)));
    }

    /// <summary>What a record has of one sector becomes zero; false when it was.</summary>
    private bool TryZero(FileStream file, long start, long end)
    {
        var sector = _random.NextInt64(start, end) / SectorBytes * SectorBytes;
        var (from, to) = (Math.Max(start, sector), Math.Min(end, sector + SectorBytes));
        var before = new byte[to - from];
        file.Position = from;
        file.ReadExactly(before);
        file.Position = from;
        file.Write(new byte[before.Length]);
        return before.AsSpan().ContainsAnyExcept((byte)0);
    }

    private FileStream Open(string key) => new(PathOf(key), FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);

    private string PathOf(string key) => Path.Combine(_folder, key);
}
