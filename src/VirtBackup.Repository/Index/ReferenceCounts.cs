using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format.Records;

namespace VirtBackup.Repository.Index;

/// <summary>
/// Every change of a reference count. An object's count is the number of distinct nodes that hold it, and of roots: points,
/// visible or forgotten, and pending commits. Each method runs inside a transaction of the caller.
/// </summary>
internal static class ReferenceCounts
{
    /// <summary>Counts a point's or pending commit's roots.</summary>
    /// <param name="connection">Of a write.</param>
    /// <param name="roots">n * 32 bytes, distinct, none zero.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.Incomplete"/>: a root is not stored.</exception>
    public static void AddRoots(ISqlConnection connection, ReadOnlySpan<byte> roots)
    {
        for (var at = 0; at < roots.Length; at += Id32.Size)
        {
            var root = Id32.Read(roots[at..]);
            if (!TryAddNode(connection, root))
            {
                throw new FaultException(FaultReason.Incomplete, $"The map node {root} was never stored.");
            }
        }
    }

    /// <summary>The opposite of <see cref="AddRoots"/>.</summary>
    public static void ReleaseRoots(ISqlConnection connection, ReadOnlySpan<byte> roots)
    {
        for (var at = 0; at < roots.Length; at += Id32.Size)
        {
            Release(connection, RecordKind.Map, Id32.Read(roots[at..]));
        }
    }

    /// <summary>Counts one more parent of a node; false when it is not stored.</summary>
    public static bool TryAddNode(ISqlConnection connection, Id32 node)
    {
        using var statement = connection.Prepare("UPDATE object SET count = count + 1, condemned_ms = 0 WHERE id = ?1 AND kind = 2");
        return statement.Bind(1, node).Execute() > 0;
    }

    /// <summary>Counts one more leaf of a chunk; false when no sound chunk of that length is stored for the scope.</summary>
    public static bool TryAddChunk(ISqlConnection connection, Id32 chunk, long scope, int rawLength)
    {
        using var statement = connection.Prepare(
            "UPDATE object SET count = count + 1, condemned_ms = 0 WHERE id = ?1 AND kind = 1 RETURNING scope, raw_length, pack");
        var found = false;
        statement.Bind(1, chunk);
        while (statement.Step())
        {
            found |= statement.GetInt64(0) == scope && statement.GetInt64(1) == rawLength && statement.GetInt64(2) > 0;
        }
        return found;
    }

    /// <summary>Whether a sound chunk of that length is stored for the scope.</summary>
    public static bool HasChunk(ISqlConnection connection, Id32 chunk, long scope, int rawLength)
    {
        using var statement = connection.Prepare("SELECT 1 FROM object WHERE id = ?1 AND kind = 1 AND scope = ?2 AND raw_length = ?3 AND pack > 0 LIMIT 1");
        return statement.Bind(1, chunk).Bind(2, scope).Bind(3, rawLength).Step();
    }

    /// <summary>Counts one parent less.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Corrupt"/>: the index counts no parent; nothing may be deleted by it.</exception>
    public static void Release(ISqlConnection connection, RecordKind kind, Id32 id)
    {
        using var statement = connection.Prepare("UPDATE object SET count = count - 1 WHERE id = ?1 AND kind = ?2 AND count > 0");
        if (statement.Bind(1, id).Bind(2, (long)kind).Execute() == 0)
        {
            throw FaultException.Corrupt($"The repository's index counts no reference to the object {id} where there was one. Rebuild the index.");
        }
    }

    /// <summary>Notes that the node has added its children's counts; false when it had done so before.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Incomplete"/>: the node is not stored.</exception>
    public static bool TryHold(ISqlConnection connection, Id32 node)
    {
        using var hold = connection.Prepare("UPDATE object SET holds = 1, condemned_ms = 0 WHERE id = ?1 AND kind = 2 AND holds = 0");
        if (hold.Bind(1, node).Execute() > 0)
        {
            return true;
        }
        using var find = connection.Prepare("SELECT 1 FROM object WHERE id = ?1 AND kind = 2 LIMIT 1");
        return find.Bind(1, node).Step() ? false : throw new FaultException(FaultReason.Incomplete, $"The map node {node} was never stored.");
    }
}
