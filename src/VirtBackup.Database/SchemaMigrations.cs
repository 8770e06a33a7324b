namespace VirtBackup.Database;

/// <summary>
/// A database's schema as the ordered list of scripts that build it. Version n is what the first n scripts make; each
/// script runs once, in a transaction of its own together with the new version number. Published scripts never change:
/// append.
/// </summary>
/// <param name="Name">What the database holds, for messages: "catalog", "chunk index".</param>
/// <param name="ApplicationId">A number that tells this kind of database from others; not 0.</param>
/// <param name="Scripts">The scripts, oldest first.</param>
public sealed record SchemaMigrations(string Name, int ApplicationId, IReadOnlyList<string> Scripts)
{
    /// <summary>The version that this program knows.</summary>
    public int Version => Scripts.Count;
}
