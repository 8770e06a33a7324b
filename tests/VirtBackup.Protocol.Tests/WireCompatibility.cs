using Google.Protobuf.Reflection;

namespace VirtBackup.Protocol.Tests;

/// <summary>Says what an older program would no longer understand. Additions are fine; everything else is listed.</summary>
internal static class WireCompatibility
{
    public static List<string> FindBreaks(FileDescriptorSet golden, FileDescriptorSet current)
    {
        var breaks = new List<string>();
        // A package is on the wire, the file that a message stands in is not.
        var packages = current.File.ToLookup(static file => file.Package);
        foreach (var old in golden.File)
        {
            var files = packages[old.Package].ToList();
            if (files.Count == 0)
            {
                breaks.Add($"package {old.Package} is gone");
                continue;
            }
            CompareMessages(old.Package, old.MessageType, files.SelectMany(static file => file.MessageType), breaks);
            CompareEnums(old.Package, old.EnumType, files.SelectMany(static file => file.EnumType), breaks);
            CompareServices(old, files, breaks);
        }
        return breaks;
    }

    private static void CompareMessages(string scope, IEnumerable<DescriptorProto> old, IEnumerable<DescriptorProto> current, List<string> breaks)
    {
        var byName = current.ToDictionary(message => message.Name);
        foreach (var message in old)
        {
            var name = $"{scope}.{message.Name}";
            if (!byName.TryGetValue(message.Name, out var now))
            {
                breaks.Add($"message {name} is gone");
                continue;
            }
            CompareFields(name, message, now, breaks);
            CompareMessages(name, message.NestedType, now.NestedType, breaks);
            CompareEnums(name, message.EnumType, now.EnumType, breaks);
        }
    }

    private static void CompareFields(string message, DescriptorProto old, DescriptorProto current, List<string> breaks)
    {
        foreach (var field in old.Field)
        {
            var name = $"field {message}.{field.Name} = {field.Number}";
            var now = current.Field.FirstOrDefault(candidate => candidate.Number == field.Number);
            if (now is null)
            {
                breaks.Add($"{name} is gone");
                continue;
            }
            if (now.Name != field.Name)
            {
                breaks.Add($"{name} is now called {now.Name}");
            }
            if (now.Type != field.Type || now.TypeName != field.TypeName || now.Label != field.Label)
            {
                breaks.Add($"{name} has another type");
            }
            if (OneofOf(current, now) != OneofOf(old, field))
            {
                breaks.Add($"{name} moved between oneofs");
            }
        }
    }

    private static string OneofOf(DescriptorProto message, FieldDescriptorProto field) => field.HasOneofIndex ? message.OneofDecl[field.OneofIndex].Name : "";

    private static void CompareEnums(string scope, IEnumerable<EnumDescriptorProto> old, IEnumerable<EnumDescriptorProto> current, List<string> breaks)
    {
        var byName = current.ToDictionary(type => type.Name);
        foreach (var type in old)
        {
            if (!byName.TryGetValue(type.Name, out var now))
            {
                breaks.Add($"enum {scope}.{type.Name} is gone");
                continue;
            }
            foreach (var value in type.Value.Where(value => !now.Value.Any(candidate => candidate.Number == value.Number && candidate.Name == value.Name)))
            {
                breaks.Add($"enum value {scope}.{value.Name} = {value.Number} is gone or was renamed");
            }
        }
    }

    private static void CompareServices(FileDescriptorProto old, IReadOnlyCollection<FileDescriptorProto> current, List<string> breaks)
    {
        foreach (var service in old.Service)
        {
            var now = current.SelectMany(static file => file.Service).FirstOrDefault(candidate => candidate.Name == service.Name);
            foreach (var method in service.Method)
            {
                var same = now?.Method.FirstOrDefault(candidate => candidate.Name == method.Name);
                if (same is null || same.InputType != method.InputType || same.OutputType != method.OutputType
                    || same.ClientStreaming != method.ClientStreaming || same.ServerStreaming != method.ServerStreaming)
                {
                    breaks.Add($"call {old.Package}.{service.Name}/{method.Name} is gone or has another shape");
                }
            }
        }
    }
}
