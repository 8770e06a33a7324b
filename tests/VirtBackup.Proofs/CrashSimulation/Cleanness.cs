using VirtBackup.Proofs.Installation;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.CrashSimulation;

/// <summary>What is true when the collector has run until all of its times have passed and nothing else went on.</summary>
internal static class Cleanness
{
    /// <summary>Proves that nothing is left that no visible point needs, but what is too little to write a pack anew for.</summary>
    public static void RequireNothingUnneeded(Census census, References needed, int deadPercentMax)
    {
        if (census.Forgotten.Keys.FirstOrDefault() is { IsEmpty: false } forgotten)
        {
            throw new RefutedException($"The forgotten point {forgotten} is still kept, and all times have passed.");
        }
        if (census.Trash.FirstOrDefault() is { } trash)
        {
            throw new RefutedException($"The object {trash} is still in the trash, and all times have passed.");
        }
        foreach (var (key, records) in census.Packs)
        {
            var dead = records.Where(record => !needed.Need(record.Entry.Header.Kind, record.Entry.Header.Id)).ToList();
            var deadBytes = dead.Sum(record => (long)record.Bytes.Length);
            if (dead.Count == records.Count || deadBytes * 100 >= census.Objects[key].Length * (long)deadPercentMax)
            {
                throw new RefutedException($"Of the {records.Count} records of {key}, nobody needs {dead.Count} ({deadBytes} of {census.Objects[key].Length} bytes), and all times have passed.");
            }
        }
    }

    /// <summary>
    /// Proves that an index made anew from the store says the same: all but records that the collector has called dead, and
    /// marks of places at which no point needs a node any more.
    /// </summary>
    public static void RequireEqual(IReadOnlyList<string> dump, IReadOnlyList<string> anew)
    {
        var (here, there) = (Comparable(dump), Comparable(anew));
        foreach (var line in here.Except(there).Where(line => !line.StartsWith("complete ", StringComparison.Ordinal)))
        {
            throw new RefutedException($"The index says what one made anew does not say: {line}");
        }
        // A key whose agent went away before it was answered is put again by whoever needs it.
        foreach (var line in there.Except(here).Where(line => !line.StartsWith("at ", StringComparison.Ordinal) && !line.StartsWith("key ", StringComparison.Ordinal)))
        {
            throw new RefutedException($"An index made anew says what the index does not say: {line}");
        }
    }

    /// <summary>Lines in which what each object is, and where it lies, are told apart.</summary>
    private static HashSet<string> Comparable(IReadOnlyList<string> dump)
    {
        var lines = new HashSet<string>(StringComparer.Ordinal);
        foreach (var line in dump)
        {
            var parts = line.Split(' ');
            if (parts[0] == "pack")
            {
                lines.Add(string.Join(' ', parts.Where(part => !part.StartsWith("dead", StringComparison.Ordinal))));
            }
            else if (parts[0] != "object")
            {
                lines.Add(line);
            }
            else if (!line.Contains("count=0", StringComparison.Ordinal))
            {
                lines.Add($"object {parts[1]} {parts[2]} {parts[^2]} {parts[^1]}");
                lines.Add($"at {string.Join(' ', parts[1..^2])}");
            }
        }
        return lines;
    }
}
