namespace VirtBackup.Repository.Verification;

/// <summary>Remembers about the last <c>capacity</c> values: forgetting one costs time, never correctness.</summary>
internal sealed class RecentSet<T>(int capacity)
    where T : notnull
{
    private HashSet<T> _young = [];
    private HashSet<T> _old = [];

    public bool Contains(T value) => _young.Contains(value) || _old.Contains(value);

    public void Add(T value)
    {
        _young.Add(value);
        if (_young.Count >= capacity / 2)
        {
            (_old, _young) = (_young, _old);
            _young.Clear();
        }
    }
}
