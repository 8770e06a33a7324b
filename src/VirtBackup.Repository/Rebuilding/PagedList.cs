using VirtBackup.Core;

namespace VirtBackup.Repository.Rebuilding;

/// <summary>A list that grows without moving what it holds. Items are changed in place. Not safe for concurrent use.</summary>
internal sealed class PagedList<T>
    where T : struct
{
    private const int PageBits = 10;

    private readonly List<T[]> _pages = [];

    public int Count { get; private set; }

    public ref T this[int index]
    {
        get
        {
            Check.That((uint)index < (uint)Count);
            return ref _pages[index >> PageBits][index & ((1 << PageBits) - 1)];
        }
    }

    /// <summary>Where the item is.</summary>
    public int Add(in T item)
    {
        if (Count >> PageBits == _pages.Count)
        {
            _pages.Add(new T[1 << PageBits]);
        }
        _pages[^1][Count & ((1 << PageBits) - 1)] = item;
        return Count++;
    }
}
