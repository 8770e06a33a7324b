using VirtBackup.Core;

namespace VirtBackup.Sealing;

/// <summary>
/// Imported public keys by their bytes: at most <see cref="CountMax"/>, then all are let go. What is not a key is not kept.
/// Safe for concurrent use.
/// </summary>
internal sealed class KeptKeys<T>
    where T : class
{
    public const int CountMax = 1024;

    private readonly Dictionary<Id32, T> _keys = [];
    private readonly Lock _gate = new();

    public delegate T Importer(ReadOnlySpan<byte> bytes);

    /// <exception cref="FaultException">What <paramref name="import"/> throws.</exception>
    public T Find(ReadOnlySpan<byte> bytes, Importer import)
    {
        var name = Id32.Read(System.Security.Cryptography.SHA256.HashData(bytes));
        lock (_gate)
        {
            if (_keys.TryGetValue(name, out var known))
            {
                return known;
            }
        }
        var key = import(bytes);
        lock (_gate)
        {
            if (_keys.Count == CountMax)
            {
                _keys.Clear();
            }
            return _keys.TryAdd(name, key) ? key : _keys[name];
        }
    }
}
