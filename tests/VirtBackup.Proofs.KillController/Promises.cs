using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.KillController;

/// <summary>What the controller has said that it has, or has let go.</summary>
internal sealed class Promises
{
    private readonly Dictionary<string, (Machine Machine, string Hash)> _points = new(StringComparer.Ordinal);
    private readonly HashSet<string> _asked = new(StringComparer.Ordinal);
    private readonly HashSet<string> _forgotten = new(StringComparer.Ordinal);

    public int Points => _points.Count;

    public int Forgotten => _forgotten.Count;

    /// <summary>A backup that was told to have succeeded.</summary>
    public void Add(string point, Machine machine, string hash) => _points.Add(point, (machine, hash));

    /// <summary>It may be forgotten from now on.</summary>
    public void Ask(string point) => _asked.Add(point);

    /// <summary>It was told to be forgotten.</summary>
    public void Forget(string point) => _forgotten.Add(point);

    /// <summary>Points of a machine that must be there, oldest first.</summary>
    public IReadOnlyList<string> KeptOf(Machine machine) => [.. _points.Where(point => point.Value.Machine == machine && !_asked.Contains(point.Key)).Select(point => point.Key)];

    /// <summary>Points whose forgetting was asked for, and not answered.</summary>
    public IReadOnlyList<string> Open => [.. _asked.Except(_forgotten)];

    public string HashOf(string point) => _points[point].Hash;

    public bool Knows(string point) => _points.ContainsKey(point);

    /// <exception cref="RefutedException">The list breaks a promise.</exception>
    public void Require(IReadOnlyList<string> listed)
    {
        var lost = _points.Keys.Except(_asked).Except(listed).ToList();
        if (lost.Count > 0) throw new RefutedException($"Committed recovery points are gone: {string.Join(", ", lost)}");
        var back = _forgotten.Intersect(listed).ToList();
        if (back.Count > 0) throw new RefutedException($"Forgotten recovery points are back: {string.Join(", ", back)}");
    }
}
