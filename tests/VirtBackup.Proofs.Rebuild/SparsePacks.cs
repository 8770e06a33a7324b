using VirtBackup.Format;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;
using VirtBackup.Proofs.CollectionScale.Generation;

namespace VirtBackup.Proofs.Rebuild;

/// <summary>Data packs as files of their length, of which only the table of contents takes room.</summary>
internal static class SparsePacks
{
    public static void Write(PackLayout layout, string folder)
    {
        for (long number = 1; number <= layout.Packs; number++)
        {
            var pack = layout[number];
            if (pack.IsReal)
            {
                continue;
            }
            var suffixLength = PackFooter.SuffixLengthOf(pack.Count + pack.Dead);
            var path = Path.Combine(folder, ObjectKeys.Pack(layout.HashOf(number)));
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            using var file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.Write);
            RandomAccess.Write(file, PackFooter.Build(RecordKind.Data, layout.EntriesOf(pack), layout.BytesOf(pack) - suffixLength), layout.BytesOf(pack) - suffixLength);
        }
    }
}
